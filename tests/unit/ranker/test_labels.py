"""Labels: channels, windows that are still open, sampling."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
from heliograph.type.v1alpha1 import notification_pb2

from services.ranker.features import HEADS, Channel, EngagementKind, Head
from services.ranker.labels import (
    Decided,
    Outcome,
    SessionTime,
    is_exported,
    labels,
    log_probability,
)

DAY = 86400
LATE = 100 * DAY
PUSH = Decided("20260105.a", "u1", 0, Channel.PUSH)


def label(decided: Decided, head: Head, known_until: int = LATE) -> int:
    return int(labels(decided, known_until)[HEADS.index(head)])


def test_heads_of_other_channels_are_masked() -> None:
    assert label(PUSH, Head.PUSH_OPEN) == 0
    for head in (Head.EMAIL_CLICK, Head.EMAIL_UNSUBSCRIBE, Head.INAPP_CLICK):
        assert label(PUSH, head) == -1
    email = replace(PUSH, channel=Channel.EMAIL)
    assert label(email, Head.EMAIL_CLICK) == 0
    assert label(email, Head.PUSH_OPEN) == -1


def test_an_open_window_is_masked_even_after_an_open() -> None:
    opened = replace(PUSH, outcomes=[Outcome(EngagementKind.OPEN, 60)])
    assert label(opened, Head.PUSH_OPEN, DAY - 1) == -1
    assert label(opened, Head.PUSH_OPEN, DAY) == 1
    assert label(opened, Head.SESSION_3D, DAY) == -1


def test_what_comes_after_the_window_does_not_count() -> None:
    assert label(replace(PUSH, outcomes=[Outcome(EngagementKind.OPEN, DAY)]), Head.PUSH_OPEN) == 0
    dismissed = replace(PUSH, outcomes=[Outcome(EngagementKind.DISMISS, 60)])
    assert label(dismissed, Head.PUSH_OPEN) == 0


def test_push_disable_is_masked_where_push_was_off() -> None:
    assert label(replace(PUSH, push_disabled=True), Head.PUSH_DISABLE) == -1
    disabled = replace(PUSH, outcomes=[Outcome(EngagementKind.DISABLE, 60)])
    assert label(disabled, Head.PUSH_DISABLE) == 1


def test_sessions_label_decisions_that_sent_nothing() -> None:
    silent = replace(PUSH, channel=Channel.NONE, sessions=[SessionTime(7200)])
    assert [label(silent, head) for head in HEADS] == [-1, -1, -1, -1, -1, 0, 0, 1, 1]
    deleted = replace(silent, sessions=[SessionTime(7200, app_deleted=True)])
    assert [label(deleted, head) for head in HEADS] == [-1, -1, -1, -1, -1, 1, 0, 0, 0]


def test_a_dropped_delivery_labels_nothing() -> None:
    assert (labels(replace(PUSH, dropped=True), LATE) == -1).all()


def test_engagements_are_always_exported_and_others_with_their_probability() -> None:
    engaged = replace(PUSH, outcomes=[Outcome(EngagementKind.DISMISS, 60)])
    assert log_probability(engaged) == 1.0
    assert is_exported(engaged)
    many = [replace(PUSH, decision_id=f"d{n}", user_id=f"u{n}") for n in range(20_000)]
    kept = [decided for decided in many if is_exported(decided)]
    weights = sum(1 / log_probability(decided) for decided in kept)
    assert {log_probability(decided) for decided in kept} == {0.1, 1.0}
    assert np.isclose(weights, len(many), rtol=0.05)


def test_a_session_labels_every_decision_in_whose_window_it_falls() -> None:
    """Two sends and a silent decision before one session: no credit is shared out."""
    session = [SessionTime(5000)]
    first, second = replace(PUSH, sessions=session), replace(PUSH, time=2000, sessions=session)
    silent = replace(second, channel=Channel.NONE)
    late = replace(second, time=5000)
    assert label(first, Head.SESSION_1H) == 0
    assert [label(each, Head.SESSION_1D) for each in (first, second, silent, late)] == [1, 1, 1, 0]
    assert label(second, Head.SESSION_1H) == 1


def test_every_head_is_one_line_of_the_table_with_the_protos_number() -> None:
    numbers = {f"HEAD_{head.name}": head.value for head in HEADS}
    assert numbers == dict(notification_pb2.Head.items()[1:])
    for head in HEADS:
        assert head.window > timedelta(0)
        assert head.signs
        assert 0 < head.negatives_kept <= 1
