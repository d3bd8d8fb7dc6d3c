"""The known world's files: the ranker's log and the truth beside it."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from services.ranker.features import HEADS, Head
from services.ranker.training.log import MASKED, Examples, read_log
from simulation.known_world import __main__ as command
from simulation.known_world.parameters import WORLDS, parameters_hash
from simulation.made_data import made_movielens

ARGUMENTS = ["--users", "130", "--days", "3"]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made data in place of MovieLens: 60 users, 160 items."""
    made = made_movielens(tmp_path / "ml", users=60, items=160, each=30)
    monkeypatch.setattr(command, "load", lambda: made)


def _made(folder: Path, *arguments: str) -> tuple[Path, Path]:
    folder.mkdir()
    log, truth = folder / "log.parquet", folder / "truth.parquet"
    assert command.main([*ARGUMENTS, "--out", str(log), "--truth", str(truth), *arguments]) == 0
    return log, truth


@pytest.fixture
def everything(tmp_path: Path) -> tuple[Examples, dict[str, "np.ndarray[tuple[int], np.dtype]"]]:
    """The log of every decision, and the columns of the truth in the same order."""
    log, truth = _made(tmp_path / "all", "--everything")
    examples, _ = read_log([log])
    table = pq.read_table(truth)
    at = {key: row for row, key in enumerate(table["decision_id"].to_pylist())}
    order = [at[key] for key in examples.decision_id]
    assert len(order) == len(table)
    return examples, {
        name: table[name].to_numpy()[order] for name in table.column_names if name != "decision_id"
    }


def test_each_decision_has_its_truth(everything: tuple[Examples, dict]) -> None:
    examples, truth = everything
    for column, head in enumerate(HEADS):
        known = examples.labels[:, column] != MASKED
        assert (known == np.isfinite(truth[head.name.lower()])).all()
    nothing = examples.channel == 0
    assert (truth["propensity"][nothing] == 0.5).all()
    assert ((truth["propensity"][~nothing] * 4 <= 0.5) & (truth["propensity"][~nothing] > 0)).all()
    assert (truth["session_1h_unsent"] <= truth["session_1h"] + 1e-12).all()
    assert (examples.log_probability == 1).all()


def test_features_know_what_went_before_and_nothing_else(
    everything: tuple[Examples, dict],
) -> None:
    """Against the log's own decisions: as many sends in the sequence as the user has had."""
    examples, _ = everything
    sends: dict[str, int] = {}
    for row, user in enumerate(examples.user_id):
        steps = examples.users["send_kinds"][row] > 0
        assert steps.sum() == sends.get(user, 0)
        assert (examples.users["send_ages"][row][steps] > 0).all()
        sends[user] = sends.get(user, 0) + int(examples.channel[row] > 0)
    steps = examples.users["engagement_kinds"] > 0
    assert (examples.users["engagement_ages"][steps] > 0).all()
    assert (examples.events["event_items"][:, 0] != 0).sum() == (examples.channel > 0).sum()


def test_logging_rates_are_the_rankers(tmp_path: Path) -> None:
    """A tenth without engagement, all with one; the weights bring the number back."""
    log, truth = _made(tmp_path / "sampled")
    examples, _ = read_log([log])
    assert set(np.unique(examples.log_probability).tolist()) == {np.float32(0.1), 1.0}
    engaged = (examples.labels[:, [HEADS.index(h) for h in list(Head)[:5]]] == 1).any(axis=1)
    assert (examples.log_probability[engaged] == 1).all()
    weight = 1 / examples.log_probability
    assert abs(weight.sum() - 130 * 9) < 4 * np.sqrt((weight * (weight - 1)).sum())
    assert len(pq.read_table(truth)) == len(examples)


def test_files_name_their_world(tmp_path: Path) -> None:
    for path in _made(tmp_path / "tired", "--world", "tired", "--seed", "7"):
        metadata = pq.ParquetFile(path).metadata.metadata
        assert metadata[b"heliograph_world"] == b"tired"
        assert metadata[b"heliograph_world_seed"] == b"7"
        found = metadata[b"heliograph_world_parameters"].decode()
        assert found == parameters_hash(WORLDS["tired"])


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    made = [
        [path.read_bytes() for path in _made(tmp_path / name, "--seed", seed)]
        for name, seed in (("a", "4"), ("b", "4"), ("c", "5"))
    ]
    assert made[0] == made[1]
    assert made[0][0] != made[2][0]
    assert made[0][1] != made[2][1]


def test_items_history_goes_on_in_the_next_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after, later = tmp_path / "after.parquet", tmp_path / "later.parquet"
    _made(tmp_path / "a", "--history-after", str(after))
    log, _ = _made(
        tmp_path / "b",
        *("--seed", "2", "--everything"),
        *("--history-before", str(after), "--history-after", str(later)),
    )
    examples, _ = read_log([log])
    sent = examples.channel > 0
    before, then = (pq.read_table(path) for path in (after, later))
    assert before["item_id"] == then["item_id"]
    own = pc.subtract(then["sends"], before["sends"])
    assert pc.sum(own).as_py() >= sent.sum()  # and those of the days in which windows close
    seen = np.round(np.expm1(examples.events["event_numbers"][sent, 3])).astype(int)
    assert set(seen[:20].tolist()) <= set(before["sends"].to_pylist())
    assert seen.max() <= max(then["sends"].to_pylist())
    assert seen[:20].sum() > 0
    log.write_bytes(b"no Parquet")
    out = ["--out", str(tmp_path / "c"), "--truth", str(tmp_path / "d")]
    assert command.main([*ARGUMENTS, *out, "--history-before", str(log)]) == 1
    assert "no history of items" in capsys.readouterr().err


def test_bad_sizes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "a"), "--truth", str(tmp_path / "b")]
    assert command.main(["--days", "56", *out]) == 2
    assert "days must be 1 to 55" in capsys.readouterr().err
    assert command.main(["--users", "2", "--days", "20", *out]) == 1
    assert "276 items" in capsys.readouterr().err
