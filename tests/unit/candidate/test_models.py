"""Candidate models: scorers, windows, the whole fit, the folder and the commands."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from scipy.sparse import csr_array, vstack
from scipy.special import expit

from services.candidate.models import (
    CandidateModel,
    FitError,
    FitOptions,
    InputError,
    Interactions,
    ModelFolderError,
    fit,
    load,
    read_interactions,
    save,
)
from services.candidate.models.calibration import Pairs, fit_calibration, sample_pairs
from services.candidate.models.combination import Combination, taste_features
from services.candidate.models.decomposition import Basis
from services.candidate.models.implicit_factors import ImplicitFactors
from services.candidate.models.neighbourhood import Neighbourhood
from services.candidate.models.rankers import FactorRanker, FilterRanker
from services.candidate.models.recipes import fit_scorers, load_scorer, recipes_for
from services.candidate.models.scorers import Ease, Factors, LinearFilter
from services.candidate.models.selection import Effort
from services.candidate.models.windows import user_window
from services.cli.main import main

DAY = 86400.0


def made(seed: int = 0, users: int = 60, items: int = 40, timed: bool = True) -> Interactions:
    """Two groups of users, each with its own half of the items; ids with odd signs."""
    generator = np.random.default_rng(seed)
    pairs = [
        (user, item)
        for user in range(users)
        for item in range(items)
        if generator.random() < (0.35 if user % 2 == item % 2 else 0.02)
    ]
    times = generator.uniform(0, 60 * DAY, len(pairs)) if timed else None
    names = [f"ü {user}/x" for user, _ in pairs], [f"it'em {item}" for _, item in pairs]
    return Interactions.of(*names, times)


@pytest.fixture(scope="module")
def model() -> CandidateModel:
    return fit(made())


def test_ease_is_the_least_squares_solution_without_self_weights() -> None:
    known = made()
    table = np.asarray(known.matrix.todense(), np.float64)
    mean = table.sum(axis=0).mean()
    found = Ease.fit(known.matrix, 2.0).weights
    for column in range(3):
        rest = [place for place in range(table.shape[1]) if place != column]
        gram = table[:, rest].T @ table[:, rest] + 2.0 * mean * np.eye(len(rest))
        expected = np.linalg.solve(gram, table[:, rest].T @ table[:, column])
        np.testing.assert_allclose(found[rest, column], expected, atol=1e-5)
    assert not found.diagonal().any()


def test_linear_filter_counts_weighted_paths() -> None:
    known = made()
    table = np.asarray(known.matrix.todense(), np.float64)
    users, items = np.maximum(table.sum(axis=1), 1), np.maximum(table.sum(axis=0), 1)
    expected = (table * items**-0.3) @ table.T * users**-0.5 @ table * items**-0.7
    found = LinearFilter.fit(known.matrix, (0.3, 0.5, 0.7)).scores(known.matrix)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_neighbourhood_is_the_linear_filter_with_similarities_to_a_power() -> None:
    known, powers = made(), (0.3, 0.5, 0.7)
    table = np.asarray(known.matrix.todense(), np.float64)
    users, items = np.maximum(table.sum(axis=1), 1), np.maximum(table.sum(axis=0), 1)
    alike = (table * items**-0.3) @ table.T * users**-0.5
    plain = LinearFilter.fit(known.matrix, powers)
    found = Neighbourhood(plain, 1.8).scores(known.matrix)
    np.testing.assert_allclose(found, alike**1.8 @ table * items**-0.7, rtol=1e-4)
    linear = Neighbourhood(plain, 1.0).scores(known.matrix)
    np.testing.assert_allclose(linear, plain.scores(known.matrix), rtol=1e-5)


def test_a_neighbourhood_is_read_back_and_refused_where_a_part_is_cut_short() -> None:
    known = made()
    scorer = Neighbourhood(LinearFilter.fit(known.matrix, (0.3, 0.5, 0.0)), 2.0)
    arrays = scorer.arrays()
    again = load_scorer("neighbourhood", arrays, known.matrix.shape)
    np.testing.assert_array_equal(again.scores(known.matrix), scorer.scores(known.matrix))
    for name in ("indices", "data", "locality"):
        with pytest.raises(ValueError, match=r"."):
            load_scorer("neighbourhood", {**arrays, name: arrays[name][:-1]}, known.matrix.shape)


def test_implicit_factors_explain_profiles_with_least_loss() -> None:
    """As the equations of the least loss say, solved exactly."""
    known, rest, penalty = made(), 0.05, 0.02
    scorer = ImplicitFactors.fit(known.matrix, 6, rest, penalty, seed=0)
    table, items = np.asarray(known.matrix.todense(), np.float64), np.float64(scorer.outward)
    for profile, scores in zip(table, scorer.scores(known.matrix), strict=True):
        ridge = penalty * (profile.sum() + rest * len(items))
        inner = items.T @ (items * (profile + rest)[:, None]) + ridge * np.eye(6)
        np.testing.assert_allclose(
            scores, items @ np.linalg.solve(inner, items.T @ profile), atol=1e-3
        )


def test_implicit_factors_tell_the_groups_apart() -> None:
    known = made(users=200)
    scores = ImplicitFactors.fit(known.matrix, 4, 0.1, 0.01, seed=0).scores(known.matrix)
    users = np.array([int(name[2:-2]) for name in known.user_ids])
    items = np.array([int(name[6:]) for name in known.item_ids])
    same = users[:, None] % 2 == items % 2
    assert scores[same].mean() > 5 * abs(scores[~same].mean())


def test_implicit_factors_are_read_back_and_refused_where_a_part_is_cut_short() -> None:
    known = made()
    scorer = ImplicitFactors.fit(known.matrix, 4, 0.1, 0.01, seed=0)
    arrays = scorer.arrays()
    again = load_scorer("implicit", arrays, known.matrix.shape)
    np.testing.assert_array_equal(again.scores(known.matrix), scorer.scores(known.matrix))
    for name in ("outward", "weights"):
        with pytest.raises(ValueError, match=r"."):
            load_scorer("implicit", {**arrays, name: arrays[name][:-1]}, known.matrix.shape)


def test_some_are_tried_only_without_times_and_beside_filters() -> None:
    shape = (5000, 3000)
    tried = {
        (dense, timed): {recipe.kind for recipe in recipes_for(shape, dense=dense, timed=timed)}
        for dense in (False, True)
        for timed in (False, True)
    }
    for kind in ("neighbourhood", "implicit"):
        assert [key for key, kinds in tried.items() if kind in kinds] == [(True, False)]


def test_low_pass_projects_on_the_first_singular_vectors() -> None:
    known = made()
    table = np.asarray(known.matrix.todense(), np.float64)
    users, items = (np.maximum(table.sum(axis=axis), 1) for axis in (1, 0))
    users, items = users + users.mean(), items + items.mean()
    _, _, right = np.linalg.svd(table * users[:, None] ** -0.5 * items**-0.5)
    expected = (table * items**-0.5) @ right[:5].T @ right[:5] * items**0.5
    found = Factors.low_pass(Basis.fit(known, 5, 0, 1.0), 5, (0.5, 0.5)).scores(known.matrix)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    backwards = Basis.fit(known.transposed, 5, 0, 1.0)
    assert backwards.vectors.shape == (table.shape[0], 5)


def test_low_pass_memory_is_linear_in_candidates() -> None:
    for items in (40, 80):
        known = made(items=items)
        arrays = Factors.low_pass(Basis.fit(known, 8, 0, 1.0), 8, (0.5, 0.5)).arrays()
        assert all(array.shape == (items, 8) for array in arrays.values())


def test_user_window_holds_out_the_latest_of_each_user() -> None:
    known = made()
    window = user_window(known, 0, 0.25)
    assert known.times is not None
    assert window.known.times is not None
    for user in range(len(known.user_ids)):
        kept = window.known.times[window.known.users == user]
        own = np.sort(known.times[known.users == user])
        assert len(kept) == int(np.ceil(len(own) * 0.75))
        np.testing.assert_array_equal(np.sort(kept), own[: len(kept)])


@pytest.mark.parametrize("timed", [True, False])
def test_both_directions_find_the_own_group(timed: bool) -> None:
    model = fit(made(timed=timed))
    items = model.recommend("items", model.user_ids, 5, exclude_seen=True)
    users = model.recommend("users", model.item_ids, 5, exclude_seen=True)
    of_users = np.array([int(name[2:-2]) % 2 for name in model.user_ids])
    of_items = np.array([int(name.split()[1]) % 2 for name in model.item_ids])
    assert (of_items[items.rows] == of_users[:, None]).mean() > 0.9
    assert (of_users[users.rows] == of_items[:, None]).mean() > 0.8
    for found in (items, users):
        assert ((found.relevance >= 0) & (found.relevance <= 1)).all()
        assert (np.diff(found.relevance, axis=1) <= 0).all()


def test_seen_pairs_are_left_out_when_asked(model: CandidateModel) -> None:
    names = list(model.user_ids)
    found = model.recommend("items", names, 40, exclude_seen=True)
    seen = np.asarray(model.seen.todense()) > 0
    for row, places in enumerate(found.rows):
        assert not seen[row, places[places >= 0]].any()
        assert (places >= 0).sum() == (~seen[row]).sum()
    assert (model.recommend("items", names, 40, exclude_seen=False).rows >= 0).all()


def test_unknown_and_cold_ids_are_answered() -> None:
    known = made()
    ids = [*known.user_ids, "zz new"]
    whole = Interactions(ids, known.item_ids, known.users, known.items, known.times, known.weights)
    group = [["even", "odd"][int(name[2:-2]) % 2] for name in known.user_ids]
    model = fit(whole, FitOptions(split="user"), users={"group": [*group, "odd"]})
    found = model.recommend("items", ["zz new", "nobody"], 5, exclude_seen=True)
    assert found.cold.all()
    assert (found.rows >= 0).all()
    odd = [int(model.item_ids[row].split()[1]) % 2 for row in found.rows[0]]
    assert sum(odd) >= 4


def test_the_same_seed_gives_the_same_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(fit(made(), FitOptions(seed=3)), tmp_path / name)
    read = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("a", "b")]
    assert read[0] == read[1]


def test_a_folder_gives_back_the_model(model: CandidateModel, tmp_path: Path) -> None:
    save(model, tmp_path / "model")
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    for side, ids in (("items", model.user_ids), ("users", model.item_ids)):
        ours = model.recommend(side, ids, 7, exclude_seen=True)
        theirs = again.recommend(side, ids, 7, exclude_seen=True)
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        np.testing.assert_array_equal(ours.relevance, theirs.relevance)
    assert list(again.user_ids) == list(model.user_ids)


@pytest.mark.parametrize("harm", ["short", "altered", "missing", "version", "path", "pickle"])
def test_a_harmed_folder_is_refused_by_file(
    harm: str, model: CandidateModel, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    save(model, folder)
    file, manifest = folder / "seen_data.npy", folder / "manifest.json"
    facts = json.loads(manifest.read_text())
    named = file.name
    if harm == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "altered":
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    elif harm == "missing":
        file.unlink()
    elif harm == "version":
        facts["version"], named = 99, "manifest.json"
    elif harm == "path":
        facts["files"]["../x.npy"], named = facts["files"][file.name], "../x.npy"
    else:
        import hashlib

        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        content = file.read_bytes()
        pin = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        facts["files"][file.name] = pin
    manifest.write_text(json.dumps(facts))
    with pytest.raises(ModelFolderError, match=named.replace(".", r"\.")):
        load(folder)


def test_a_cut_short_manifest_is_refused(model: CandidateModel, tmp_path: Path) -> None:
    save(model, tmp_path / "model")
    manifest = tmp_path / "model" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    with pytest.raises(ModelFolderError, match="not whole JSON"):
        load(tmp_path / "model")


def test_save_leaves_other_folders_alone(model: CandidateModel, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(ModelFolderError, match="holds no model"):
        save(model, tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "x"


def test_calibration_recovers_known_probabilities() -> None:
    generator = np.random.default_rng(5)
    scores = generator.normal(size=(400, 500)).astype(np.float32)
    queries = generator.normal(size=(400, 1)).astype(np.float32)
    truth = expit(0.8 * scores + 0.5 * queries - 3.0)
    met = (generator.random(truth.shape) < truth).astype(np.float32)
    there = np.ones(met.shape, np.bool_)
    for share, every in ((1.0, 1), (0.2, 1), (0.5, 2)):
        # of the queries every second stands for two, and the others for none
        stand_for = np.tile(np.float32([every, every == 1]), 200).astype(np.float32)
        pairs = sample_pairs(scores, queries, met > 0, there, stand_for, share, 1)
        found = fit_calibration(pairs, 0.1)
        np.testing.assert_allclose(found.weights, [0.8, 0.5, -3.0], atol=0.06)
        np.testing.assert_allclose(found.relevance(scores, queries), truth, atol=0.03)


def test_strength_is_of_taste_alone() -> None:
    generator = np.random.default_rng(0)
    offset, context = generator.standard_normal(4), generator.standard_normal((4, 1))
    taste = [generator.standard_normal((3, 4)) for _ in range(2)]
    found = Combination(np.zeros(1), np.ones(1), np.array([2.0, 0.8, -0.4]))
    expected = offset + 2 * context[:, 0] + 0.4 * taste[0] - 0.2 * taste[1]
    scores = found.tempered(0.5).scores(offset, context, taste)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_calibration_without_pairs_is_its_prior() -> None:
    found = fit_calibration(Pairs.none(2), 0.02)
    zero = np.zeros((1, 1), np.float32)
    assert found.relevance(zero, np.ones((1, 2), np.float32)).item() == pytest.approx(0.02)


def test_an_index_of_vectors_says_the_same_as_the_filters() -> None:
    known = made()
    basis = Basis.fit(known.transposed, 12, 0, 1.0)
    scorers = [
        Factors.low_pass(basis, 6, (0.5, 0.5), 1.0),
        Factors.low_pass(basis, 12, (0.3, 0.6), 0.0),
    ]
    generator = np.random.default_rng(1)
    size = len(known.user_ids)
    there = np.arange(size) != 3
    offset = generator.normal(size=size).astype(np.float32)
    weights = np.array([0.7, -0.2])
    combination = Combination(np.zeros(0, np.float32), np.zeros(0, np.float32), weights)
    profiles = known.transposed.matrix
    features = [taste_features(scorer.scores(profiles[:9]), there, 1)[0] for scorer in scorers]
    centres = np.stack([feature.mean(axis=0) for feature in features])
    context = np.zeros((size, 0), np.float32)
    filters = FilterRanker(scorers, combination, offset, context, centres, there)
    bias = np.where(there, offset, np.float32(-np.inf))
    index = FactorRanker.of(scorers, weights.astype(np.float32), bias, profiles[:9])
    empty = csr_array((1, size), dtype=np.float32)
    asked = csr_array(vstack([profiles, profiles[:2] / 3, empty]))
    found = index.queries(asked) @ index.vectors.T + index.bias
    np.testing.assert_allclose(found, filters.scores(asked), atol=2e-4)
    np.testing.assert_array_equal(index.scores(asked), found)
    np.testing.assert_array_equal(found[-1], bias)


@pytest.mark.parametrize("timed", [True, False])
def test_the_quick_fit_finds_the_own_group_and_is_an_index(timed: bool) -> None:
    model = fit(made(timed=timed), FitOptions(effort="quick"))
    for side, ids in (("items", model.user_ids), ("users", model.item_ids)):
        index = model.index(side)
        assert index is not None
        rows = np.arange(len(ids))
        scores = index.queries(model.profiles(side, rows)) @ index.vectors.T + index.bias
        found = model.recommend(side, ids, 5, exclude_seen=False)
        np.testing.assert_array_equal(np.argmax(scores, axis=1), found.rows[:, 0])
        relevance = model.relevance(side, rows, np.sort(scores, axis=1)[:, ::-1])
        np.testing.assert_array_equal(relevance[:, :5], found.relevance)
    found = model.recommend("users", ["it'em 5"], 5, exclude_seen=True)
    assert sum(int(model.user_ids[row][2:-2]) % 2 == 1 for row in found.rows[0]) >= 4


@pytest.mark.parametrize("timed", [True, False])
def test_the_quick_fit_smooths_degrees_only_without_times(timed: bool) -> None:
    """Beside activity they stay as they are: smoothed, items and the replay's opens fall behind."""
    known = made(timed=timed)
    model = fit(known, FitOptions(effort="quick"))
    (recipe,) = model.directions["items"].recipes
    rank, a, c, sharpness, _ = recipe.values
    basis = Basis.fit(known, int(rank), 0, smoothing=0.0 if timed else 1.0)
    expected = Factors.low_pass(basis, int(rank), (a, c), sharpness)
    (found,) = fit_scorers(known, [recipe], 0)
    np.testing.assert_array_equal(found.scores(known.matrix), expected.scores(known.matrix))


@pytest.mark.parametrize("effort", ["quick", "full"])
@pytest.mark.parametrize("users", [1, 2, 20])
def test_tiny_data_gives_a_model(effort: Effort, users: int) -> None:
    for size in (1, 3):
        known = Interactions.of(
            [f"u{user}" for user in range(users) for _ in range(size)],
            [f"i{(user + item) % 7}" for user in range(users) for item in range(size)],
        )
        model = fit(known, FitOptions(effort=effort))
        for side, ids in (("items", model.user_ids), ("users", model.item_ids)):
            found = model.recommend(side, ids, 3, exclude_seen=False)
            chosen = found.relevance[found.rows >= 0]
            assert len(chosen) >= len(ids)
            assert ((chosen > 0) & (chosen < 1)).all()


def test_a_query_that_is_not_in_the_model_borrows_by_attributes_or_text() -> None:
    known = made()
    groups = [["even", "odd"][int(name.split()[1]) % 2] for name in known.item_ids]
    texts = np.stack([[group == "even", group == "odd"] for group in groups]).astype(np.float32)
    model = fit(
        known, FitOptions(effort="quick"), items={"group": groups}, vectors={"items": texts}
    )
    index = model.index("users")
    assert index is not None
    odd = np.array([[0, 1]], np.float32)
    profiles = csr_array(
        vstack(
            [
                model.lent("users", {"group": ["odd"]}, 1),
                model.lent("users", {}, 1, odd),
                model.lent("users", {"group": ["green"]}, 1),
            ]
        )
    )
    queries = index.queries(profiles)
    assert not queries[2].any()
    for query in queries[:2]:
        best = np.argsort(-(index.vectors @ query + index.bias))[:8]
        assert sum(int(model.user_ids[row][2:-2]) % 2 == 1 for row in best) >= 7
        relevance = model.relevance("users", np.array([-1]), (index.vectors @ query)[None, :])
        assert ((relevance > 0) & (relevance < 1)).all()


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"user_id": ["a"]}, "item_id"),
        ({"user_id": ["a", None], "item_id": ["x", "y"]}, "'user_id', row 1"),
        ({"user_id": [1.5], "item_id": ["x"]}, "'user_id'"),
        ({"user_id": ["a"], "item_id": ["x"], "weight": [float("nan")]}, "'weight', row 0"),
        ({"user_id": ["a"], "item_id": ["x"], "timestamp": ["now"]}, "'timestamp'"),
        *(
            (
                {"user_id": ["a", "a"], "item_id": ["x", "y"], "timestamp": [0, wrong]},
                "row 1: .* numbers are seconds since 1970",
            )
            for wrong in (1_700_000_000_000, 10**15, 10**18, -(2**62), -1)
        ),
        ({"user_id": pa.array([], pa.string()), "item_id": pa.array([], pa.string())}, "no inter"),
    ],
)
def test_bad_files_are_told_by_column_and_row(
    columns: dict[str, object], told: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    with pytest.raises(InputError, match=told):
        read_interactions(tmp_path / "f.parquet")


def test_no_positive_interaction_is_told() -> None:
    with pytest.raises(FitError, match="positive weight"):
        fit(Interactions.of(["a"], ["x"], None, np.zeros(1, np.float32)))


def test_the_commands_fit_and_recommend_both_ways(tmp_path: Path) -> None:
    known = made()
    table = {
        "user_id": [known.user_ids[row] for row in known.users],
        "item_id": [known.item_ids[row] for row in known.items],
        "timestamp": known.times,
    }
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    run = CliRunner()
    paths = ["--interactions", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "m")]
    done = run.invoke(main, ["candidate", "fit", *paths])
    assert done.exit_code == 0, done.output
    pairs = set(zip(table["user_id"], table["item_id"], strict=True))
    for side, key, ids in (
        ("items", "user_id", known.user_ids),
        ("users", "item_id", known.item_ids),
    ):
        pq.write_table(pa.table({key: ids}), tmp_path / "ids.parquet")
        asked = ["--model", str(tmp_path / "m"), "--direction", side, "--count", "4"]
        asked += ["--ids", str(tmp_path / "ids.parquet"), "--out", str(tmp_path / "o.parquet")]
        done = run.invoke(main, ["candidate", "recommend", *asked, "--exclude-seen"])
        assert done.exit_code == 0, done.output
        found = pq.read_table(tmp_path / "o.parquet").to_pylist()
        assert len(found) == 4 * len(ids)
        assert [row["rank"] for row in found[:4]] == [1, 2, 3, 4]
        for row in found:
            pair = (row["query_id"], row["id"])
            assert (pair if side == "items" else pair[::-1]) not in pairs
    (tmp_path / "m" / "seen_data.npy").write_bytes(b"x")
    done = run.invoke(main, ["candidate", "recommend", *asked])
    assert done.exit_code == 1
    assert "seen_data.npy: cut short" in done.output
