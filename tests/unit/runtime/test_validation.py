"""Broken rules are told by field, and never so many that telling them takes long."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from google.protobuf.message import Message
from heliograph.policy.v1alpha1 import recipients_pb2
from heliograph.ranker.v1alpha1 import ranker_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2, status_pb2
from protovalidate import Violation, collect_violations

from services.candidate.handlers.batches import judge
from services.policy.handlers.items import read_items
from services.ranker.requests import rank_request
from services.runtime import validation
from services.runtime.errors import InvalidArgument
from services.runtime.validation import ItemRules, check, violations

Rejected = Callable[[list[event_pb2.Event]], Sequence[status_pb2.Rejection]]


def _by_policy(events: list[event_pb2.Event]) -> Sequence[status_pb2.Rejection]:
    return read_items(events, str)[1]


def _by_candidate(events: list[event_pb2.Event]) -> Sequence[status_pb2.Rejection]:
    return judge(events, str).rejections


def _by_ranker(events: list[event_pb2.Event]) -> Sequence[status_pb2.Rejection]:
    ranked = [
        ranker_pb2.RankEvent(event_id="e", event_type="t", item_ids=event.item_ids)
        for event in events
    ]
    user = ranker_pb2.RankUser(user_id="u")
    request = ranker_pb2.RankRequest(users=[user], events=ranked, user_row=[0] * len(ranked))
    return rank_request(request).rejections


def test_a_valid_message_breaks_nothing() -> None:
    assert violations(recipients_pb2.Recipient(user_id="u", slot_hours=[8, 18])) == []


def test_every_broken_rule_of_a_small_message_is_told() -> None:
    recipient = recipients_pb2.Recipient(locale="?", slot_hours=[25])
    paths = [field.path for field in violations(recipient)]
    assert paths == ["user_id", "locale", "slot_hours[0]"]
    with pytest.raises(InvalidArgument, match=r"^user_id: .* 2 more"):
        check(recipient)


def test_of_a_large_message_only_the_first_is_told() -> None:
    (field,) = violations(recipients_pb2.Recipient(user_id="u", slot_hours=range(100, 100_000)))
    assert field.path == "slot_hours"
    assert "24" in field.description


@pytest.mark.parametrize("size", [10_001, 400_000])
def test_lists_of_an_event_type_that_are_too_long_are_refused(size: int) -> None:
    """The rule about both of them isn't evaluated then: it would take too many steps."""
    push = notification_pb2.CHANNEL_PUSH
    kind = event_pb2.EventType(name="x", route=event_pb2.ROUTE_RANKED, channels=[push])
    template = event_pb2.Template(channel=push, locale="en", title="Hello")
    kind.templates.extend([template] * size)
    assert [field.path for field in violations(kind)] == ["templates"]
    del kind.templates[:]
    kind.channels.extend([push] * size)
    assert [field.path for field in violations(kind)] == ["channels"]


def test_a_batch_of_items_full_of_errors_is_told_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counts the broken rules that were gathered, which is what takes time."""
    gathered = 0

    def counted(message: Message, *, fail_fast: bool = False) -> list[Violation]:
        nonlocal gathered
        found = collect_violations(message, fail_fast=fail_fast)
        gathered += len(found)
        return found

    monkeypatch.setattr(validation, "collect_violations", counted)
    rules, most = ItemRules(), validation.MOST_TOLD
    bad = recipients_pb2.Recipient(user_id="u", slot_hours=[100] * 495)
    good = recipients_pb2.Recipient(user_id="u")
    found = [rules.rejection(index, bad) for index in range(1000)]
    assert rules.rejection(1000, good) is None
    told = [len(each.fields) for each in found if each is not None]
    in_full = most // told[0] + 1
    assert told == [told[0]] * in_full + [1] * (1000 - in_full)
    assert gathered <= most + told[0] + len(found)


@pytest.mark.parametrize("rejected", [_by_policy, _by_candidate, _by_ranker])
def test_services_tell_errors_of_a_batch_to_the_limit(rejected: Rejected) -> None:
    event = event_pb2.Event(user_id="u", event_id="e", event_type="t", item_ids=[""] * 245)
    found = rejected([event] * 1000)
    assert len(found) == 1000
    assert sum(len(each.fields) for each in found) < validation.MOST_TOLD + 245 + 1000
