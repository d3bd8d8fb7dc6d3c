"""The training log: what it holds, that it follows its seed, and that no label is invented."""

from pathlib import Path

import numpy as np
import pytest

from services.ranker.features import HEADS, Head, item_key
from services.ranker.training.log import MASKED, Examples, read_log
from simulation.bootstrap import BootstrapOptions, make_log
from simulation.movielens import MovieLens
from simulation.snapshots import item_table
from simulation.suggestions import suggestions
from simulation.world import BOOTSTRAP_CUT, make_world

OPTIONS = BootstrapOptions(seed=4, rounds=2, days=3, random_items=2)


@pytest.fixture
def log(data: MovieLens, tmp_path: Path) -> Examples:
    """The log of a small deployment."""
    path = tmp_path / "log.parquet"
    summary = make_log(data, path, OPTIONS, show=False)
    examples, _ = read_log([path])
    assert summary.decisions == len(examples)
    assert summary.sends == np.count_nonzero(examples.channel)
    return examples


def _labels(log: Examples, head: Head) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
    labels: np.ndarray[tuple[int], np.dtype[np.int8]] = log.labels[:, HEADS.index(head)]
    return labels


def test_about_half_of_the_slots_send_over_all_channels(log: Examples) -> None:
    shares = np.bincount(log.channel, minlength=4) / len(log)
    assert 0.4 < shares[0] < 0.6
    assert (shares[1:] > 0.05).all()
    assert len(set(log.decision_id)) == len(log)


def test_labels_are_only_on_the_channel_that_was_sent(log: Examples) -> None:
    for head, channel in ((Head.PUSH_OPEN, 1), (Head.EMAIL_CLICK, 2), (Head.INAPP_CLICK, 3)):
        known = _labels(log, head) != MASKED
        assert (known == (log.channel == channel)).all()


def test_what_does_not_happen_in_this_world_is_masked(log: Examples) -> None:
    for head in (Head.APP_DELETE, Head.SESSION_1H, Head.SESSION_1D, Head.SESSION_3D):
        assert (_labels(log, head) == MASKED).all()


def test_opens_are_those_of_the_truth(data: MovieLens, log: Examples) -> None:
    """A send is labelled as opened exactly when the training part of the truth likes the item."""
    world = make_world(data, BOOTSTRAP_CUT)
    keys = np.array([item_key(item.item_id) for item in data.items])
    item_of = {ref: row for row, ref in enumerate(item_table(data).refs(keys).tolist())}
    sent = np.flatnonzero(log.channel)
    opened = (log.labels[sent, :3] == 1).any(axis=1)
    users = [int(log.user_id[row]) - 1 for row in sent]
    items = [item_of[ref] for ref in log.events["event_items"][sent, 0].tolist()]
    assert opened.sum() > 10
    assert (opened == world.liked[users, items]).all()


def test_features_know_nothing_of_the_decision_itself(log: Examples) -> None:
    """At a user's first decision of a round no send or response has been seen."""
    first: dict[tuple[str, str], int] = {}
    for row, (key, user) in enumerate(zip(log.decision_id, log.user_id, strict=True)):
        first.setdefault((key.split(":")[0], user), row)
    rows = np.array(list(first.values()))
    assert len(rows) == 2 * 40
    assert not log.users["send_kinds"][rows].any()
    assert not log.users["response_kinds"][rows].any()
    assert log.users["send_kinds"].any()


def test_the_same_seed_gives_the_same_rows(data: MovieLens, tmp_path: Path) -> None:
    logs = []
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        options = BootstrapOptions(seed=seed, rounds=1, days=2, random_items=2)
        make_log(data, tmp_path / name, options, show=False)
        logs.append((tmp_path / name).read_bytes())
    assert logs[0] == logs[1]
    assert logs[0] != logs[2]


def test_nothing_is_suggested_twice(data: MovieLens) -> None:
    world = make_world(data, BOOTSTRAP_CUT)
    seen = world.seen.copy()
    for day in suggestions(world, 3, random_per_day=3, seed=1):
        assert not seen[day.user, day.item].any()
        assert len(set(zip(day.user.tolist(), day.item.tolist(), strict=True))) == len(day.user)
        seen[day.user, day.item] = True
        assert set(day.source) <= {"collaborative", "popular", "fresh", "random"}
        assert ((day.score >= 0) & (day.score <= 1)).all()
