"""Stored requests as runs of all sizes."""

import numpy as np

from services.ranker.backend import MOST_USERS
from services.ranker.features import (
    EventFacts,
    Features,
    event_features,
    rows,
)
from services.ranker.features.schema import SEQUENCES
from services.ranker.inputs import check_inputs
from services.ranker.rank_log import Scored
from services.ranker.rehearsal import SIZES, readable, runs, sized
from services.ranker.snapshots import encode_users, event_records
from tests.unit.ranker.made_log import START, made_items, made_log

ITEMS = made_items()
COUNTS = (3, 1, 40)


def stored() -> list[Scored]:
    """Three users, of whom the later have longer histories, and their 3, 1 and 40 events."""
    examples, _ = made_log(users=1, days=9)
    users = encode_users(rows(examples.users, np.array([0, 4, 8])))
    found = []
    for user, count in enumerate(COUNTS):
        facts = [EventFacts("a", (f"i{user}",), "als", (n + 1) / 50) for n in range(count)]
        events = event_records(event_features(facts, START, ITEMS)).tobytes()
        found.append(Scored(users[user], count, events))
    return found


def steps(inputs: Features) -> int:
    return max(int((inputs[f"{name}_kinds"] > 0).sum(1).max()) for name in SEQUENCES)


def test_each_size_is_met_with_short_and_with_long_histories() -> None:
    requests = readable(stored())
    assert requests is not None
    made = list(runs(requests, ITEMS))
    for inputs in made:
        check_inputs(inputs)
    sizes = [(len(inputs["segment"]), len(inputs["user_row"])) for inputs in made]
    assert sizes == [size for size in SIZES for _ in range(2)]
    assert SIZES[-1][0] == MOST_USERS
    (short, long), *_ = zip(made[::2], made[1::2], strict=True)
    assert steps(short) < steps(long)


def test_events_keep_their_users_and_come_in_turn() -> None:
    requests = readable(stored())
    assert requests is not None
    part = sized(requests, np.array([2, 0, 1, 2]), 60)
    assert part.user_row[:4].tolist() == [0, 1, 2, 3]
    origin = np.array([2, 0, 1, 2])[part.user_row]
    expected = [requests.events["event_items"][requests.user_row == user][0, 0] for user in origin]
    assert part.events["event_items"][:, 0].tolist() == expected


def test_snapshots_of_other_features_are_left_out() -> None:
    good, old = stored()[:2]
    broken = Scored(b"hsn0" + old.features[4:], old.event_count, old.events)
    requests = readable([broken, good])
    assert requests is not None
    assert requests.user_row.tolist() == [0, 0, 0]
    assert readable([broken]) is None
    assert readable([]) is None
