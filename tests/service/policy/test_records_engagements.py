"""ReportEngagement and ReportSessions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.policy.v1alpha1 import recipients_pb2, reports_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.policy.timestamps import timestamp
from services.runtime.clock import at
from tests.service.policy.recorded import EMAIL, NOW, PUSH, Policy, Sent

OPEN = notification_pb2.ENGAGEMENT_KIND_OPEN
DISMISS = notification_pb2.ENGAGEMENT_KIND_DISMISS
UNSUBSCRIBE = notification_pb2.ENGAGEMENT_KIND_UNSUBSCRIBE
DISABLE = notification_pb2.ENGAGEMENT_KIND_DISABLE
LATER = NOW + timedelta(minutes=10)


def engagement(one: Sent, key: str = "e1", **fields: Any) -> reports_pb2.Engagement:
    defaults: dict[str, Any] = {
        "decision_id": one.decision_id,
        "user_id": one.user_id,
        "kind": OPEN,
        "engage_time": timestamp(LATER),
    }
    return reports_pb2.Engagement(engagement_id=key, **(defaults | fields))


def session(
    key: str = "s1", user_id: str = "ann", start_time: datetime = NOW, **fields: Any
) -> reports_pb2.Session:
    return reports_pb2.Session(
        session_id=key, user_id=user_id, start_time=timestamp(start_time), **fields
    )


async def report(
    policy: Policy, *reported: reports_pb2.Engagement, moment: datetime = LATER
) -> reports_pb2.ReportEngagementResponse:
    with at(moment):
        return await policy.stub.ReportEngagement(
            reports_pb2.ReportEngagementRequest(engagements=reported)
        )


async def sessions(
    policy: Policy, *reported: reports_pb2.Session, moment: datetime = NOW
) -> reports_pb2.ReportSessionsResponse:
    with at(moment):
        return await policy.stub.ReportSessions(
            reports_pb2.ReportSessionsRequest(sessions=reported)
        )


async def context(policy: Policy) -> recipients_pb2.UserContext:
    with at(LATER):
        answer = await policy.stub.GetUserContexts(
            recipients_pb2.GetUserContextsRequest(user_ids=["ann"])
        )
    return answer.contexts[0]


@pytest.fixture
async def push(policy: Policy) -> Sent:
    """A push that ann got at NOW."""
    one = Sent("push")
    await policy.store([one])
    await policy.lease()
    return one


@pytest.fixture
async def email(policy: Policy) -> Sent:
    """An e-mail that ann got at NOW."""
    one = Sent("email", channel=EMAIL)
    await policy.store([one])
    await policy.lease()
    return one


async def test_an_open_is_told_in_the_feed_and_makes_the_user_active(
    policy: Policy, push: Sent
) -> None:
    answer = await report(policy, engagement(push))

    assert (answer.accepted_count, len(answer.rejections)) == (1, 0)
    (entry,) = await policy.feed()
    assert entry.event_time.ToDatetime(tzinfo=UTC) == LATER
    told = entry.engagement
    assert (told.engagement_id, told.decision_id, told.kind) == ("e1", push.decision_id, OPEN)
    assert (told.event_id, told.event_type, list(told.item_ids)) == (
        "event-push",
        "movie.suggestion",
        ["m1"],
    )
    assert (told.channel, told.segment) == (PUSH, "casual")
    assert told.decide_time.ToDatetime(tzinfo=UTC) == NOW
    after = await context(policy)
    assert after.segment == "resurrected"
    assert max(range(168), key=after.hour_profile.__getitem__) == 10  # 15:10 UTC, Monday


async def test_a_report_counts_once_however_often_it_comes(policy: Policy, push: Sent) -> None:
    reports = [engagement(push), engagement(push)]

    answers = await asyncio.gather(*(report(policy, *reports) for _ in range(5)))

    assert [answer.accepted_count for answer in answers] == [2] * 5
    assert len(await policy.feed()) == 1
    (row,) = await policy.rows("SELECT hour_counts FROM recipients")
    assert sum(bytes(row.hour_counts)) == 1


async def test_disabling_ends_the_channels_opt_in(policy: Policy, push: Sent) -> None:
    await report(policy, engagement(push, kind=DISABLE))

    (row,) = await policy.rows("SELECT opt_ins, activity FROM recipients")
    assert tuple(row) == (6, 0)


async def test_unsubscribing_ends_the_topics_e_mails_until_it_is_turned_on_again(
    policy: Policy, email: Sent
) -> None:
    topics = "SELECT unsubscribed_topics, opt_ins FROM recipients"
    await report(policy, engagement(email, kind=UNSUBSCRIBE))
    assert [tuple(row) for row in await policy.rows(topics)] == [(["movies"], 7)]

    late = Sent("late", channel=EMAIL, critical=True)
    await policy.store([late])
    assert (await policy.lease()).dropped_count == 1

    again = recipients_pb2.Preferences(muted_topics={"movies": False})
    with at(LATER):
        await policy.stub.PutPreferences(
            recipients_pb2.PutPreferencesRequest(user_id="ann", preferences=again)
        )
    assert [tuple(row) for row in await policy.rows(topics)] == [([], 7)]


async def test_a_dismissal_is_no_activity(policy: Policy, push: Sent) -> None:
    await report(policy, engagement(push, kind=DISMISS))

    assert (await context(policy)).segment == "dormant"


async def test_bad_reports_do_not_lose_the_good_one(policy: Policy, push: Sent) -> None:
    waiting = Sent("waiting")
    await policy.store([waiting])

    answer = await report(
        policy,
        engagement(push, "good"),
        engagement(push, "bad-1", decision_id="20260105.none"),
        engagement(push, "bad-2", decision_id="nonsense"),
        engagement(push, "bad-3", decision_id="20250105.a-year-ago"),
        engagement(push, "bad-4", user_id="bob"),
        engagement(waiting, "bad-5"),
        engagement(push, "bad-6", engage_time=timestamp(NOW - timedelta(microseconds=1))),
        engagement(push, "bad-7", engage_time=timestamp(LATER + timedelta(minutes=6))),
        engagement(push, "bad-8", kind=UNSUBSCRIBE),
        engagement(push, "bad-9", kind=99),
        engagement(push, "bad-10", engage_time=None),
        engagement(push, "bad-11", engage_time=Timestamp(seconds=2**60)),
        engagement(push, "", kind=OPEN),
        engagement(push, "at-the-decision", engage_time=timestamp(NOW)),
    )

    assert answer.accepted_count == 2
    assert {one.index: one.reason for one in answer.rejections} == {
        1: "UNKNOWN_DECISION",
        2: "UNKNOWN_DECISION",
        3: "UNKNOWN_DECISION",
        4: "WRONG_USER",
        5: "NOT_SENT",
        6: "TOO_EARLY",
        7: "IN_FUTURE",
        8: "WRONG_CHANNEL",
        9: "INVALID_FIELD",
        10: "INVALID_FIELD",
        11: "INVALID_FIELD",
        12: "INVALID_FIELD",
    }
    rows = await policy.rows("SELECT engagement_id FROM engagements")
    assert {row.engagement_id for row in rows} == {"good", "at-the-decision"}


async def test_sessions_make_active_days_in_any_order(policy: Policy) -> None:
    days = [3, 0, 12, 9, 6, 0]
    reported = [
        session(f"s{number}", start_time=NOW - timedelta(days=age))
        for number, age in enumerate(days)
    ]

    for one in reported:
        answer = await sessions(policy, one)
        assert answer.accepted_count == 1

    assert (await context(policy)).segment == "casual"
    (row,) = await policy.rows("SELECT activity, activity_day FROM recipients")
    assert row.activity_day == NOW.date()
    assert row.activity == sum(1 << age for age in set(days))
    assert {entry.session.session_id for entry in await policy.feed()} == {
        f"s{number}" for number in range(len(days))
    }


async def test_an_app_delete_is_told_and_is_no_activity(policy: Policy) -> None:
    await sessions(policy, session(app_deleted=True))

    (entry,) = await policy.feed()
    assert entry.session.app_deleted
    assert (await context(policy)).segment == "dormant"


async def test_a_session_counts_once(policy: Policy) -> None:
    reported = [session(), session()]

    answers = await asyncio.gather(*(sessions(policy, *reported) for _ in range(5)))

    assert [answer.accepted_count for answer in answers] == [2] * 5
    assert len(await policy.feed()) == 1


async def test_bad_sessions_do_not_lose_the_good_one(policy: Policy) -> None:
    answer = await sessions(
        policy,
        session("good", duration=Duration(seconds=90)),
        session("bad-1", user_id="nobody"),
        session("bad-2", start_time=NOW + timedelta(minutes=6)),
        session("bad-3", start_time=NOW - timedelta(days=401)),
        session("bad-4", duration=Duration(seconds=-1)),
        session("bad-5", duration=Duration(seconds=2**60)),
        reports_pb2.Session(session_id="bad-6", user_id="ann"),
    )

    assert answer.accepted_count == 1
    assert {one.index: one.reason for one in answer.rejections} == {
        1: "UNKNOWN_USER",
        2: "IN_FUTURE",
        3: "TOO_OLD",
        4: "INVALID_FIELD",
        5: "INVALID_FIELD",
        6: "INVALID_FIELD",
    }
    (row,) = await policy.rows("SELECT session_id, duration FROM sessions")
    assert tuple(row) == ("good", timedelta(seconds=90))
