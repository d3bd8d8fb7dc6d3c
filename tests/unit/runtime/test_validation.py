"""Broken rules are told by field, and never so many that telling them takes long."""

from __future__ import annotations

import pytest
from heliograph.policy.v1alpha1 import recipients_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from services.runtime.errors import InvalidArgument
from services.runtime.validation import check, violations


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
