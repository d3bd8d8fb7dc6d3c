"""Snapshots as bytes give the features back exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.features import (
    Entry,
    EventFacts,
    FeatureState,
    ItemTable,
    UserSignals,
    apply,
    event_features,
    user_features,
)
from services.ranker.snapshots import (
    SnapshotError,
    decode_event,
    decode_events,
    decode_users,
    encode_users,
    event_records,
)
from tests.unit.ranker.entries import START, histories
from tests.unit.ranker.made_log import made_items

NOW = START + 41 * 86400


@settings(deadline=None, max_examples=30)
@given(st.lists(histories, min_size=1, max_size=3))
def test_users_round_trip(users: list[list[Entry]]) -> None:
    states = [apply(FeatureState(), history) for history in users]
    features = user_features(states, [UserSignals("core")] * len(states), NOW, made_items(4))
    decoded = decode_users(encode_users(features))
    for name, array in features.items():
        np.testing.assert_array_equal(array, decoded[name], err_msg=name)
        assert array.dtype == decoded[name].dtype


@pytest.mark.parametrize("items", [("i1",), ("i1", "i2"), ("i3", "none", "i1", "i2")])
def test_events_round_trip(items: tuple[str, ...]) -> None:
    facts = [EventFacts("a", items, "als", 0.25, START), EventFacts("b"), EventFacts("c")]
    features = event_features(facts, NOW, made_items(4))
    data = event_records(features)[[2, 0]].tobytes()
    for position, row in ((0, 2), (1, 0)):
        decoded = decode_event(data, position, 2)
        for name, array in features.items():
            np.testing.assert_array_equal(array[row : row + 1], decoded[name], err_msg=name)
            assert array.dtype == decoded[name].dtype


def test_other_versions_are_refused() -> None:
    features = user_features([FeatureState()], [UserSignals()], NOW, ItemTable())
    (data,) = encode_users(features)
    with pytest.raises(SnapshotError):
        decode_users([b"hsn0" + data[4:]])
    with pytest.raises(SnapshotError):
        decode_events(bytes(2 * 68), 2)
    assert len(decode_events(b"", 0)["event_type"]) == 0
