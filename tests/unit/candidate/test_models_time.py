"""What the times of interactions say: later visits, and what new users begin with."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate.models import CandidateModel, FitOptions, Interactions, direction, fit
from services.candidate.models.activity import fit_activity
from services.candidate.models.context import Clock
from services.candidate.models.newcomers import NewcomerModel
from services.candidate.models.rankers import FilterRanker
from services.candidate.models.returns import HOUR, ReturnFilter, first_and_last_visits
from services.candidate.models.selection import Effort
from services.candidate.models.windows import split_at
from services.candidate.sources.arrays import Floats

DAY = 86400.0
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 60)), min_size=1, max_size=60
)


def naive_visits(times: list[float], gap: float) -> list[int]:
    """The visit of each time, in the order given; times ascend."""
    found = [0]
    for before, after in pairwise(times):
        found.append(found[-1] + (after - before >= gap))
    return found


def naive_returns(known: Interactions, gap: float, b: float, c: float) -> Floats:
    """Pair by pair: from what each user met to what others, before their last visit, met too, to
    what these met after their first."""
    assert known.times is not None
    seen = np.asarray(known.matrix.todense(), np.float64)
    before, after = np.zeros_like(seen), np.zeros_like(seen)
    for user in range(len(seen)):
        own = np.flatnonzero(known.users == user)
        own = own[np.argsort(known.times[own], kind="stable")]
        visits = naive_visits(known.times[own].tolist(), gap)
        for row, visit in zip(own, visits, strict=True):
            if visit < visits[-1]:
                before[user, known.items[row]] = 1
            if visit > visits[0]:
                after[user, known.items[row]] = 1
    users, items = np.maximum(seen.sum(axis=1), 1), np.maximum(seen.sum(axis=0), 1)
    found = np.zeros_like(seen)
    for query in range(len(seen)):
        for candidate in range(seen.shape[1]):
            for other in range(len(seen)):
                common = float(seen[query] @ before[other])
                found[query, candidate] += common * users[other] ** -b * after[other, candidate]
    return (found * items**-c).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_returns_are_the_sum_over_paths_to_later_visits(rows: list[tuple[int, int, int]]) -> None:
    users, items, hours = (list(column) for column in zip(*rows, strict=True))
    times = np.array(hours, np.float64) * HOUR
    known = Interactions.of([str(user) for user in users], [str(item) for item in items], times)
    found = ReturnFilter.fit(known, 6.0, (0.5, 0.7)).scores(known.matrix)
    np.testing.assert_allclose(found, naive_returns(known, 6 * HOUR, 0.5, 0.7), rtol=1e-4)


def test_a_single_visit_is_the_first_and_the_last() -> None:
    known = Interactions.of(["a", "a", "b", "b"], list("xyxy"), np.array([0, 1, 0, 9]) * HOUR)
    first, last = first_and_last_visits(known, 6 * HOUR)
    assert first.tolist() == [True, True, True, False]
    assert last.tolist() == [True, True, False, True]


def beginners(seed: int = 0) -> tuple[Interactions, list[str]]:
    """Users of two kinds come one after the other. All meet the five `start` items on the first
    day, those of their kind more often, and come back for others every three days, for long."""
    generator = np.random.default_rng(seed)
    rows: list[tuple[str, str, float]] = []
    kinds = ["even" if user % 2 == 0 else "odd" for user in range(120)]
    for user, kind in enumerate(kinds):
        begin = user * DAY
        first = ["start 0", f"start {1 if kind == 'even' else 2}"]
        first += [f"start {item}" for item in (3, 4) if generator.random() < 0.3]
        rows += [(f"u{user:03}", item, begin + place) for place, item in enumerate(first)]
        for visit in range(1, 12):
            chosen = generator.choice(30, 6, replace=False)
            when = begin + 3 * visit * DAY
            rows += [
                (f"u{user:03}", f"more {item}", when + place) for place, item in enumerate(chosen)
            ]
    users, items, times = zip(*rows, strict=True)
    return Interactions.of(users, items, np.array(times)), kinds


@pytest.fixture(scope="module")
def cut() -> tuple[CandidateModel, Interactions, Clock]:
    """Fitted on the first hundred days; twenty users are yet to come."""
    known, kinds = beginners()
    clock = Clock(100 * DAY, 7 * DAY)
    before = split_at(known, clock).known
    return fit(before, FitOptions(7 * DAY), users={"kind": kinds}), known, clock


def test_new_users_get_what_new_users_begin_with(
    cut: tuple[CandidateModel, Interactions, Clock],
) -> None:
    model, _, _ = cut
    ranker = model.directions["items"].ranker
    assert isinstance(ranker, FilterRanker)
    assert ranker.newcomers is not None
    assert ranker.newcomers.weight > 0
    found = model.recommend("items", ["u110", "u111", "nobody"], 4, exclude_seen=True)
    assert found.cold.all()
    for rows in found.rows:
        assert all(model.item_ids[row].startswith("start") for row in rows)
    both = [model.item_ids.index(name) for name in ("start 1", "start 2")]
    rows = np.array([model.user_ids.index(name) for name in ("u110", "u111")])
    _, scores, _ = next(model.scored("items", rows))
    even, odd = scores[:, both]
    assert even[0] > even[1]
    assert odd[0] < odd[1]
    old = model.recommend("items", ["u090"], 3, exclude_seen=True)
    assert not any(model.item_ids[row].startswith("start") for row in old.rows[0])


@pytest.mark.parametrize("effort", ["full", "quick"])
def test_attributes_count_where_nobody_was_new(effort: Effort) -> None:
    """Forty users of two kinds, who all came on the first day, and two who never did."""
    generator = np.random.default_rng(5)
    rows = [
        (f"u{user:02}", f"{kind} {item}", day * DAY + user)
        for user in range(40)
        for kind in ("even" if user % 2 == 0 else "odd",)
        for day, item in enumerate([0, *generator.choice(np.arange(1, 40), 30, replace=False)])
    ]
    users, items, times = zip(*rows, strict=True)
    known = Interactions.of(users, items, np.array(times))
    kinds = ["even" if user % 2 == 0 else "odd" for user in range(42)]
    known = replace(known, user_ids=[*known.user_ids, "v even", "v odd"])
    model = fit(known, FitOptions(3 * DAY, effort=effort), users={"kind": kinds})
    found = model.recommend("items", ["v even", "v odd"], 10, exclude_seen=True)
    for kind, best in zip(("even", "odd"), found.rows, strict=True):
        assert all(model.item_ids[row].startswith(kind) for row in best)


def test_what_new_users_want_is_learned_apart(
    cut: tuple[CandidateModel, Interactions, Clock],
) -> None:
    _, known, clock = cut
    before = known.take(known.times < clock.now) if known.times is not None else known
    of_known, of_new = fit_activity(before.transposed, clock)
    start = np.array([name.startswith("start") for name in before.item_ids])
    returning, beginning = (
        NewcomerModel(activity, 0.0).at(before, clock).level for activity in (of_known, of_new)
    )
    assert returning[~start].min() > returning[start].max()
    assert beginning[~start].max() < beginning[start].min()


def test_new_users_who_all_came_do_not_say_how_many_stay_away() -> None:
    known, _ = beginners()
    found = fit(known, FitOptions(7 * DAY)).directions["items"]
    assert found.new_calibration is found.calibration
    more = replace(known, user_ids=[*known.user_ids, "v0", "v1"])
    with_others = fit(more, FitOptions(7 * DAY)).directions["items"]
    assert with_others.new_calibration is not with_others.calibration


def test_the_relevance_of_new_users_is_what_happens(
    cut: tuple[CandidateModel, Interactions, Clock],
) -> None:
    model, known, clock = cut
    window = split_at(known, clock)
    new = np.flatnonzero(np.bincount(window.known.users, minlength=120) == 0)
    expected = 0.0
    for _, scores, rows in model.scored("items", new):
        found = model.relevance("items", rows, scores)
        expected += float(found[np.isfinite(found)].sum())
    assert expected == pytest.approx(float(window.by_new_users.sum()), rel=0.6)


@pytest.mark.parametrize("effort", ["quick", "full"])
def test_who_never_comes_is_not_expected(effort: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of users without interactions, beside the few who come: none of the few may be in a
    sample of all."""
    for name, count in (
        ("CALIBRATION_QUERIES", 50),
        ("CALIBRATION_PAIRS", 1000),
        ("QUICK_PAIRS", 1000),
    ):
        monkeypatch.setattr(direction, name, count)
    known, kinds = beginners()
    clock = Clock(100 * DAY, 7 * DAY)
    window = split_at(known, clock)
    idle = [f"v{user:04}" for user in range(4000)]
    before = replace(window.known, user_ids=[*window.known.user_ids, *idle])
    kinds += ["even"] * len(idle)
    model = fit(before, FitOptions(7 * DAY, effort=effort), users={"kind": kinds})
    rows = np.arange(len(known.user_ids), len(before.user_ids))
    expected = 0.0
    for _, scores, part in model.scored("items", rows):
        found = model.relevance("items", part, scores)
        expected += float(found[np.isfinite(found)].sum())
    assert expected < 2 * window.by_new_users.sum()


def test_windows_tell_new_users_and_new_items_apart() -> None:
    known = Interactions.of(list("aabbc"), list("xyyzy"), np.array([0, 5, 1, 6, 7.0]))
    window = split_at(known, Clock(3.0, 10.0))
    rows = [names.nonzero() for names in (window.met, window.by_new_users, window.new_items_by)]
    assert [list(zip(*pair, strict=True)) for pair in rows] == [[(0, 1)], [(2, 1)], [(1, 2)]]
    turned = window.transposed()
    assert turned.by_new_users.nonzero()[0].tolist() == [2]
    assert turned.new_items_by.nonzero()[1].tolist() == [2]
