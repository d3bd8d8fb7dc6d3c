"""The quick look vouches for nothing that protovalidate refuses."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.candidate.v1alpha1 import publishing_pb2
from heliograph.policy.v1alpha1 import recipients_pb2
from heliograph.ranker.v1alpha1 import ranker_pb2
from heliograph.type.v1alpha1 import event_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from services.runtime.screening import Columns, all_valid
from services.runtime.validation import violations

GOOD: dict[str, Any] = {
    "user_id": "user-1",
    "event_id": "é\\ 1",
    "event_type": "comment.reply",
    "item_ids": ["item-1", "item-2"],
    "payload": {"reason": "a friend\nliked it", "empty": ""},
    "create_time": Timestamp(seconds=1),
    "actor_ids": ["a"],
    "source": "bench",
    "source_score": 1.0,
}
signs = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\0\x1f\x7f\n $\\"))
ids = st.sampled_from(["u", "u\n", "x" * 128, "x" * 129, ""]) | signs
names = st.sampled_from(["news", "news\n", "News", "a.b-c_1", "1a", "x" * 64, "x" * 65, ""])
events = st.builds(
    event_pb2.Event,
    user_id=ids,
    event_id=ids,
    event_type=names,
    item_ids=st.lists(ids, max_size=3),
    payload=st.dictionaries(names, st.sampled_from(["", "é" * 1024, "x" * 1025]), max_size=2),
    aggregation_key=ids,
    actor_ids=st.lists(ids, max_size=3),
    source=names,
    campaign_id=ids,
    source_score=st.floats(),
)


@given(events)
@example(event_pb2.Event(**GOOD))
def test_it_says_what_protovalidate_says(event: event_pb2.Event) -> None:
    assert all_valid(Columns([event])) == (not violations(event))


ranked = st.builds(
    ranker_pb2.RankRequest,
    users=st.lists(
        st.builds(
            ranker_pb2.RankUser,
            user_id=ids,
            segment=names,
            locale=names,
            hour_profile=st.lists(st.just(1.0), max_size=2) | st.just([1.0] * 169),
        ),
        max_size=2,
    ),
    events=st.lists(st.builds(ranker_pb2.RankEvent, event_id=ids), max_size=2),
    user_row=st.lists(st.just(0), max_size=2),
)


@given(ranked)
@example(ranker_pb2.RankRequest(users=[{"user_id": "u"}], events=[{}], user_row=[0]))
@example(ranker_pb2.RankRequest(users=[{"user_id": "u"}] * 1001, events=[{}], user_row=[0]))
def test_it_says_the_same_of_messages_in_messages(request: ranker_pb2.RankRequest) -> None:
    assert all_valid(Columns([request])) == (not violations(request))


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_id": ""},
        {"event_id": "x" * 129},
        {"event_type": "news\n"},
        {"item_ids": ["i"] * 33},
        {"item_ids": ["i", ""]},
        {"payload": {f"k{n}": "" for n in range(33)}},
        {"payload": {"Key": ""}},
        {"payload": {"key": "x" * 1025}},
        {"actor_ids": ["\x7f"]},
        {"source_score": float("nan")},
        {"source_score": 1.1},
    ],
)
def test_one_wrong_event_among_others_is_noticed(wrong: dict[str, Any]) -> None:
    good = event_pb2.Event(**GOOD)
    bad = event_pb2.Event(**GOOD | wrong)
    assert all_valid(Columns([good, good]))
    assert not all_valid(Columns([good, bad, good]))


@pytest.mark.parametrize(
    "message",
    [
        publishing_pb2.CancelEventsRequest(item_ids=["i"]),  # a rule over several fields
        recipients_pb2.Recipient(user_id="u", slot_hours=[8]),  # messages with rules in it
        event_pb2.EventType(),
    ],
)
def test_rules_that_it_does_not_know_are_left_to_protovalidate(message: Any) -> None:
    assert not all_valid(Columns([message]))
