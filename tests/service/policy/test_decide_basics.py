"""Decide: what it answers, what it writes, and that it does so once."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from heliograph.policy.v1alpha1 import (
    decide_pb2,
    explanation_pb2,
    recipients_pb2,
    reports_pb2,
    sendability_pb2,
    stop_switches_pb2,
)
from heliograph.type.v1alpha1 import event_pb2, notification_pb2
from sqlalchemy import text

from services.policy.timestamps import timestamp
from services.runtime.clock import at
from tests.service.policy.asked import (
    CRITICAL,
    NIGHT,
    NOW,
    RANKED,
    READY,
    decide,
    event,
    event_type,
    ready,
    slot,
)
from tests.service.policy.recorded import EMAIL, IN_APP, PUSH, Policy, recipient

SENT = notification_pb2.EVENT_END_SENT
EXPIRED = notification_pb2.EVENT_END_EXPIRED
SUPPRESSED = notification_pb2.EVENT_END_SUPPRESSED
STAYS = notification_pb2.EVENT_END_UNSPECIFIED
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$
"""


async def test_invariant_4_a_decision_commits_with_all_that_follows_from_it(
    policy: Policy,
) -> None:
    """Decision, fatigue, volume, feed and outbox."""
    answer = await decide(policy, slot(event("a"), event("b")))
    (made,) = answer.decisions
    assert (made.send, made.event_id, made.channel) == (True, "a", PUSH)
    assert made.reason == "ABOVE_THRESHOLD"
    assert made.utility == pytest.approx(0.5)
    assert made.decision_id.startswith("20260105.")
    assert [(one.event_id, one.end) for one in made.outcomes] == [("a", SENT), ("b", STAYS)]
    assert made.next_slot_times[0].ToDatetime() == (NOW + timedelta(hours=3)).replace(tzinfo=None)
    assert await policy.sends_of("ann") == [made.delivery_id]
    (volume,) = await policy.rows("SELECT kind, count, channel FROM volume")
    assert tuple(volume) == ("decided", 1, PUSH)
    (entry,) = await policy.feed()
    assert entry.decision.decision_id == made.decision_id
    assert list(entry.decision.item_ids) == ["item-a"]
    (delivery,) = (await policy.lease(moment=NOW)).deliveries
    assert delivery.delivery_id == made.delivery_id
    assert delivery.event.event_id == "a"


WRITTEN = ("decisions", "decided_events", "outbox", "volume", "offers", "feed")


@pytest.mark.parametrize("broken", [*WRITTEN, "fatigue"])
async def test_invariant_4_when_one_part_can_not_be_written_none_is(
    policy: Policy, broken: str
) -> None:
    async with policy.database.unit_of_work() as work:
        await work.execute(text(REFUSE))
        await work.execute(
            text(
                f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {broken}"
                " FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
        await work.commit()

    with pytest.raises(grpc.aio.AioRpcError):
        await decide(policy, slot(event("a")))

    for table in WRITTEN:
        assert await policy.rows(f"SELECT 1 FROM {table}") == [], table
    assert await policy.sends_of("ann") == []
    async with policy.database.unit_of_work() as work:
        await work.execute(text(f"DROP TRIGGER refuse ON {broken}"))
        await work.commit()
    (made,) = (await decide(policy, slot(event("a")))).decisions
    for table in WRITTEN:
        assert len(await policy.rows(f"SELECT 1 FROM {table}")) >= 1, table
    assert await policy.sends_of("ann") == [made.delivery_id]


async def test_invariant_2_a_retry_answers_the_stored_decision(policy: Policy) -> None:
    first = await decide(policy, slot(event("a")))
    again = await decide(policy, slot(event("a"), event("new")), moment=NOW + timedelta(hours=1))
    assert again.decisions == first.decisions
    assert len(await policy.feed()) == 1


async def test_invariant_3_an_event_is_sent_once(policy: Policy) -> None:
    await decide(policy, slot(event("a")))
    later = NOW + timedelta(hours=6)
    (made,) = (await decide(policy, slot(event("a"), time=later), moment=later)).decisions
    assert not made.send
    assert (made.reason, made.forced_by) == ("NO_OPTION", "expiry_and_duplicates")
    assert [(one.end, one.reason) for one in made.outcomes] == [(SUPPRESSED, "DUPLICATE")]


async def test_a_dry_run_answers_the_same_and_writes_nothing(policy: Policy) -> None:
    dry = await decide(policy, slot(event("a")), dry_run=True)
    assert not await policy.rows("SELECT FROM decisions")
    assert await policy.sends_of("ann") == []
    wet = await decide(policy, slot(event("a")))
    assert wet.decisions == dry.decisions


async def test_two_slots_of_a_user_in_one_batch_share_the_caps(policy: Policy) -> None:
    first, second = slot(event("a")), slot(event("b"), slot_id="another")
    answer = await decide(policy, first, second)
    assert [made.send for made in answer.decisions] == [True, False]
    assert answer.decisions[1].forced_by == "caps_and_gaps"


async def test_untrained_heads_weigh_nothing(policy: Policy) -> None:
    trained = [notification_pb2.HEAD_EMAIL_CLICK]
    (made,) = (await decide(policy, slot(event("a")), trained=trained)).decisions
    assert made.channel == EMAIL


async def test_in_app_is_the_fallback_only(policy: Policy) -> None:
    kind = event_type("movie.suggestion", (PUSH, IN_APP), in_app_fallback=True)
    await policy.upsert(recipient("bea", opt_ins=(PUSH, IN_APP)))
    scores = [0.2, 0.0, 0.9]
    asked = slot(event("a", "bea"), user_id="bea", scores=scores)
    (made,) = (await decide(policy, asked, types=[kind], dry_run=True)).decisions
    assert made.channel == PUSH
    with at(NOW):
        await policy.stub.Pause(
            stop_switches_pb2.PauseRequest(
                stop_switch=stop_switches_pb2.StopSwitch(channel=PUSH), reason="push is broken"
            )
        )
    (made,) = (await decide(policy, asked, types=[kind])).decisions
    assert made.channel == IN_APP


async def test_critical_events_pass_quiet_hours_and_caps(policy: Policy) -> None:
    first = ready(event("c1", kind=CRITICAL.name), NIGHT)
    second = ready(event("c2", kind=CRITICAL.name), NIGHT)
    answer = await decide(policy, first, second, moment=NIGHT)
    assert [(made.send, made.reason, made.forced) for made in answer.decisions] == [
        (True, "CRITICAL", True),
        (True, "CRITICAL", True),
    ]
    assert await policy.sends_of("ann") == []
    assert not await policy.rows("SELECT FROM volume")


async def test_a_ready_event_held_back_for_now_is_deferred(policy: Policy) -> None:
    message = event("m", kind=READY.name)
    (made,) = (await decide(policy, ready(message, NIGHT), moment=NIGHT)).decisions
    assert (made.reason, made.decision_id, made.send) == ("DEFERRED", "", False)
    assert made.outcomes[0].reason == "QUIET_HOURS"
    retry = made.next_slot_times[0].ToDatetime().replace(tzinfo=NOW.tzinfo)
    assert retry == NOW.replace(day=6, hour=13)
    assert not await policy.rows("SELECT FROM decisions")
    (made,) = (await decide(policy, ready(message, retry), moment=retry)).decisions
    assert (made.send, made.reason) == (True, "READY")
    again = await decide(policy, ready(message, retry + timedelta(days=1)), moment=retry)
    assert list(again.decisions) == [made]


async def test_a_ready_event_held_back_for_good_ends(policy: Policy) -> None:
    with at(NOW):
        await policy.stub.PutPreferences(
            recipients_pb2.PutPreferencesRequest(
                user_id="ann",
                preferences=recipients_pb2.Preferences(muted_topics={"friends": True}),
            )
        )
    message = event("m", kind=READY.name)
    (made,) = (await decide(policy, ready(message))).decisions
    assert (made.reason, made.forced_by) == ("NO_OPTION", "preferences")
    assert [(one.end, one.reason) for one in made.outcomes] == [(SUPPRESSED, "MUTED")]


async def test_expired_events_end_and_others_stay(policy: Policy) -> None:
    old = event("old", expire_time=NOW - timedelta(seconds=1))
    (made,) = (await decide(policy, slot(old, event("a"), event("b")))).decisions
    ends = {one.event_id: (one.end, one.reason) for one in made.outcomes}
    assert ends == {
        "old": (EXPIRED, "EXPIRED"),
        "a": (SENT, "ABOVE_THRESHOLD"),
        "b": (STAYS, "NOT_CHOSEN"),
    }


@pytest.mark.parametrize(
    ("broken", "reason", "field"),
    [
        (slot(event("x", "nobody"), user_id="nobody"), "UNKNOWN_USER", None),
        (slot(event("x"), scores=[0.1, float("nan"), 0.2]), "NON_FINITE_SCORE", "scores[1]"),
        (slot(event("x"), scores=[0.1, 1.5, 0.2]), "SCORE_OUT_OF_RANGE", "scores[1]"),
        (slot(event("x"), scores=[0.1]), "WRONG_SHAPE", "scores"),
        (slot(event("x", kind="not.there")), "UNKNOWN_EVENT_TYPE", "events[0].event_type"),
        (slot(event("x"), event("x")), "DUPLICATE_EVENT", "events[1].event_id"),
        (slot(event("x", "bob")), "WRONG_USER", "events[0].user_id"),
        (slot(event("x" * 129)), "INVALID_FIELD", "events[0].event_id"),
        (slot(event("x", kind=CRITICAL.name)), "WRONG_ROUTE", "events[0].event_type"),
        (slot(event("x"), slot_id="event:y"), "INVALID_FIELD", "slot_id"),
        (slot(), "INVALID_FIELD", "events"),
        (
            decide_pb2.Slot(
                user_id="ann",
                slot_id="s",
                slot_time=timestamp(NOW),
                model_version="a\0b",
                events=[event("x")],
                scores=[0, 0, 0],
            ),
            "INVALID_FIELD",
            "model_version",
        ),
        (
            slot(
                event_pb2.Event(
                    user_id="ann", event_id="x", event_type=RANKED.name, campaign_id="a\0b"
                )
            ),
            "INVALID_FIELD",
            "events[0].campaign_id",
        ),
        (slot(event("x"), slot_id="s" * 161), "INVALID_FIELD", "slot_id"),
        (
            slot(event("x"), time=NOW + timedelta(days=400)),
            "SLOT_TIME_OUT_OF_RANGE",
            "slot_time",
        ),
        (
            decide_pb2.Slot(user_id="ann", slot_id="s", events=[event("x")], scores=[0, 0, 0]),
            "INVALID_FIELD",
            "slot_time",
        ),
    ],
)
async def test_a_bad_slot_is_rejected_and_loses_no_good_one(
    policy: Policy, broken: decide_pb2.Slot, reason: str, field: str | None
) -> None:
    good = slot(event("a"))
    answer = await decide(policy, broken, good, good)
    assert [made.event_id for made in answer.decisions] == ["a"]
    first, repeated = answer.rejections
    assert (first.index, first.reason) == (0, reason)
    assert [one.field for one in first.fields] == ([field] if field else [])
    assert (repeated.index, repeated.reason) == (2, "DUPLICATE_SLOT")


async def test_too_many_slots_are_refused(policy: Policy) -> None:
    slots = [slot(event("a"), slot_id=str(number)) for number in range(1001)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await decide(policy, *slots)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_explanation_tells_rules_options_and_what_followed(policy: Policy) -> None:
    await policy.upsert(recipient("bea", opt_ins=(PUSH,)))
    old = event("old", "bea", expire_time=NOW)
    asked = slot(old, event("a", "bea"), event("b", "bea"), user_id="bea")
    (made,) = (await decide(policy, asked)).decisions
    await policy.stub.ReportEngagement(
        reports_pb2.ReportEngagementRequest(
            engagements=[
                reports_pb2.Engagement(
                    engagement_id="g1",
                    decision_id=made.decision_id,
                    user_id="bea",
                    kind=notification_pb2.ENGAGEMENT_KIND_OPEN,
                    engage_time=timestamp(NOW),
                )
            ]
        )
    )
    request = explanation_pb2.ExplainDecisionRequest(decision_id=made.decision_id)
    told = await policy.stub.ExplainDecision(request)
    assert told.decision == made
    left = [one for one in told.options if not one.removed_by]
    assert [one.event_id for one in left] == [
        made.event_id,
        *(name for name in ("a", "b", "") if name != made.event_id),
    ]
    assert sum(one.propensity for one in left) == pytest.approx(1)
    taken = next(one for one in left if one.event_id == made.event_id)
    assert taken.propensity == pytest.approx(made.propensity)
    assert len(taken.scores) == 3
    removed = {
        (one.event_id, one.channel): one.removed_by for one in told.options if one.removed_by
    }
    assert removed["a", EMAIL] == "opt_out_and_reachability"
    assert removed["old", PUSH] == "expiry_and_duplicates"
    steps = {step.rule: (step.removed_count, step.left_count) for step in told.steps}
    assert steps["opt_out_and_reachability"] == (3, 3)
    assert steps["expiry_and_duplicates"] == (1, 2)
    assert steps["channel"] == (1, 1)
    assert told.delivery_state == "waiting"


async def test_unknown_decisions_are_not_found(policy: Policy) -> None:
    for name in ("20260105.0123456789abcdef0123", "nonsense"):
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await policy.stub.ExplainDecision(
                explanation_pb2.ExplainDecisionRequest(decision_id=name)
            )
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND


async def test_decisions_are_listed_newest_first_by_pages(policy: Policy) -> None:
    times = [NOW + timedelta(hours=9 * number) for number in range(5)]
    for number, time in enumerate(times):
        await decide(policy, slot(event(f"e{number}"), time=time), moment=time)
    seen: list[str] = []
    token = ""
    while True:
        request = explanation_pb2.ListDecisionsRequest(user_id="ann", page_size=2, page_token=token)
        page = await policy.stub.ListDecisions(request)
        seen.extend(made.slot_id for made in page.decisions)
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"{time:%Y%m%dT%H%M}" for time in reversed(times)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await policy.stub.ListDecisions(
            explanation_pb2.ListDecisionsRequest(user_id="ann", page_token="nonsense")
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_sendability_follows_the_rules_of_a_decision(policy: Policy) -> None:
    await policy.upsert(recipient("bea", opt_ins=(EMAIL,)), recipient("cid", opt_ins=()))
    await decide(policy, slot(event("a")))
    found: dict[str, tuple[int, int, int]] = {}
    with at(NOW):
        async for chunk in policy.stub.StreamSendability(
            sendability_pb2.StreamSendabilityRequest(chunk_size=2)
        ):
            columns = zip(
                chunk.user_ids,
                chunk.sendable_channels,
                chunk.remaining_today,
                chunk.daily_caps,
                strict=True,
            )
            found |= {user: (channels, left, cap) for user, channels, left, cap in columns}
    assert found == {"ann": (0, 2, 3), "bea": (2, 3, 3), "cid": (0, 3, 3)}
