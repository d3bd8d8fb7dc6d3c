"""Late drops, the meaning of reports, and ids."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.deliveries import (
    Ack,
    Delivery,
    DropReason,
    End,
    Receiver,
    State,
    Verdict,
    apply,
    day_of,
    judge,
    late_drop,
    quiet_end,
)
from services.policy.preferences import QuietHours
from services.policy.stop_switches import Scope, StopSwitch, StopSwitches

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PAUSED = StopSwitches(frozenset([StopSwitch(Scope.ALL)]))
OPEN = StopSwitches()


def delivery(**fields: object) -> Delivery:
    """An e-mail that waits to go out."""
    waiting = Delivery(
        day=NOW.date(), delivery_id="20260105.a", decision_id="20260105.b", user_id="ann",
        event_id="e", event_type="t", topic="movies", campaign_id="", critical=False, event=b"",
        channel=2, locale="en", segment="core", experiment_group="default", copy_style="",
        decide_time=NOW, expire_time=NOW + timedelta(hours=1), state=State.WAITING, due_time=NOW,
        owner="", attempt=0, address_key=None, variant_id="", style="", error="", end_time=None,
    )  # fmt: skip
    return replace(waiting, **fields)  # type: ignore[arg-type]


def receiver(**fields: object) -> Receiver:
    """Opted in to everything, nothing muted."""
    return replace(Receiver(7, 0, (), (), None, "UTC", None), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "to", "switches", "reachable", "now", "expected"),
    [
        (delivery(), receiver(), OPEN, True, NOW, None),
        (delivery(), None, PAUSED, False, NOW, DropReason.PAUSED),
        (delivery(), None, OPEN, False, NOW, DropReason.OPT_OUT),
        (delivery(), receiver(opt_ins=5), OPEN, False, NOW, DropReason.OPT_OUT),
        (
            delivery(),
            receiver(unsubscribed_topics=["movies"]),
            OPEN,
            False,
            NOW,
            DropReason.UNSUBSCRIBED,
        ),
        (delivery(channel=1), receiver(unsubscribed_topics=["movies"]), OPEN, True, NOW, None),
        (delivery(expire_time=NOW), receiver(), OPEN, False, NOW, DropReason.UNREACHABLE),
        (delivery(expire_time=NOW), receiver(), OPEN, True, NOW, DropReason.EXPIRED),
        (delivery(expire_time=None), receiver(), OPEN, True, NOW, None),
        (delivery(), receiver(muted_topics=["movies"]), OPEN, True, NOW, DropReason.MUTED),
        (delivery(), receiver(muted_channels=2), OPEN, True, NOW, DropReason.MUTED),
        (delivery(), receiver(muted_channels=5), OPEN, True, NOW, None),
        (
            delivery(),
            receiver(snooze_until=NOW + timedelta(seconds=1)),
            OPEN,
            True,
            NOW,
            DropReason.SNOOZED,
        ),
        (delivery(), receiver(snooze_until=NOW), OPEN, True, NOW, None),
        (
            delivery(critical=True),
            receiver(muted_channels=7, muted_topics=["movies"]),
            OPEN,
            True,
            NOW,
            None,
        ),
        (delivery(critical=True, expire_time=NOW), receiver(), OPEN, True, NOW, DropReason.EXPIRED),
    ],
)
def test_the_first_rule_that_binds_names_the_drop(
    one: Delivery,
    to: Receiver | None,
    switches: StopSwitches,
    reachable: bool,
    now: datetime,
    expected: DropReason | None,
) -> None:
    assert late_drop(one, to, switches, now, reachable=reachable) is expected


NIGHT = datetime(2026, 1, 5, 23, tzinfo=UTC)
MORNING = datetime(2026, 1, 6, 8, tzinfo=UTC)
BY_DEFAULT = QuietHours(22 * 60, 8 * 60)


@pytest.mark.parametrize(
    ("one", "to", "now", "expected"),
    [
        (delivery(), receiver(), NOW, None),
        (delivery(), receiver(), NIGHT, MORNING),
        (delivery(critical=True), receiver(), NIGHT, None),
        (delivery(), receiver(time_zone="America/New_York"), NIGHT, None),
        (delivery(), receiver(time_zone="Asia/Tokyo"), NIGHT, None),
        (
            delivery(),
            receiver(time_zone="Asia/Tokyo"),
            NIGHT - timedelta(hours=1),
            NIGHT,
        ),
        (delivery(), receiver(quiet_hours=QuietHours(0, 0)), NIGHT, None),
        (delivery(), receiver(quiet_hours=QuietHours(12 * 60, 13 * 60)), NOW, NOW + HOUR),
    ],
)
def test_quiet_hours_hold_what_is_not_critical(
    one: Delivery, to: Receiver, now: datetime, expected: datetime | None
) -> None:
    assert quiet_end(one, to, now, BY_DEFAULT) == expected


acks = st.builds(
    Ack,
    st.just("20260105.a"),
    st.sampled_from(End),
    retry_time=st.just(NOW + timedelta(minutes=1)),
)


@given(st.lists(st.tuples(acks, st.sampled_from(["one", "two"])), max_size=12))
def test_whatever_is_reported_the_first_end_stands(reports: list[tuple[Ack, str]]) -> None:
    leased = delivery(state=State.LEASED, owner="one", attempt=1)
    first_end: State | None = None
    for ack, owner in reports:
        verdict = judge(ack, leased, owner)
        if verdict is Verdict.APPLY:
            assert first_end is None
            apply(ack, leased, NOW)
        if leased.end_time is not None and first_end is None:
            first_end = leased.state
        if first_end is not None:
            assert leased.state is first_end
            assert leased.end_time == NOW


def test_a_delivery_never_leased_cannot_have_been_handed_over() -> None:
    assert judge(Ack("20260105.a", End.DELIVERED), delivery(), "one") is Verdict.NOT_LEASED


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("20260105.abc", date(2026, 1, 5)),
        ("20260230.abc", None),
        ("2026010.abc", None),
        ("20260105", None),
        ("٢٠٢٦٠١٠٥.abc", None),
        ("-0260105.abc", None),
        ("00000101.abc", None),
        ("", None),
    ],
)
def test_an_id_begins_with_its_day(identity: str, expected: date | None) -> None:
    assert day_of(identity) == expected
