"""EraseUser."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from heliograph.policy.v1alpha1 import recipients_pb2, reports_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.policy.timestamps import timestamp
from services.runtime.clock import at
from tests.service.policy.recorded import NOW, Policy, Sent, delivered, recipient

TABLES = (
    "recipients",
    "endpoints",
    "fatigue",
    "decided_events",
    "decisions",
    "outbox",
    "engagements",
    "sessions",
    "feed",
)


async def erase(policy: Policy, user_id: str = "ann") -> int:
    with at(NOW):
        answer = await policy.stub.EraseUser(recipients_pb2.EraseUserRequest(user_id=user_id))
    return answer.removed_count


async def report(policy: Policy, one: Sent) -> reports_pb2.ReportEngagementResponse:
    engagement = reports_pb2.Engagement(
        engagement_id=f"e-{one.key}",
        decision_id=one.decision_id,
        user_id=one.user_id,
        kind=notification_pb2.ENGAGEMENT_KIND_OPEN,
        engage_time=timestamp(NOW),
    )
    with at(NOW):
        return await policy.stub.ReportEngagement(
            reports_pb2.ReportEngagementRequest(engagements=[engagement])
        )


async def visit(policy: Policy, user_id: str) -> reports_pb2.ReportSessionsResponse:
    session = reports_pb2.Session(session_id="s1", user_id=user_id, start_time=timestamp(NOW))
    with at(NOW):
        return await policy.stub.ReportSessions(
            reports_pb2.ReportSessionsRequest(sessions=[session])
        )


async def lived(policy: Policy, user_id: str) -> Sent:
    """A user with a delivered notification, an open, a session and one on its way."""
    await policy.upsert(recipient(user_id))
    one = Sent(f"{user_id}-1", user_id=user_id)
    await policy.store([one])
    await policy.lease()
    await policy.ack(delivered(one))
    await report(policy, one)
    await visit(policy, user_id)
    await policy.store([Sent(f"{user_id}-2", user_id=user_id)])
    return one


async def test_nothing_is_left_of_an_erased_user_and_all_of_the_others(policy: Policy) -> None:
    await lived(policy, "ann")
    await lived(policy, "bob")

    removed = await erase(policy)

    assert removed == 1 + 3 + 1 + 2 + 2 + 1 + 1 + 3
    for table in TABLES:
        rows = await policy.rows(f"SELECT user_id FROM {table}")
        assert {row.user_id for row in rows} <= {"bob"}
    assert len(await policy.feed()) == 3
    assert await erase(policy) == 0


async def test_no_open_delivery_of_an_erased_user_stays_in_flight(policy: Policy) -> None:
    await lived(policy, "ann")

    await erase(policy)

    assert await policy.volume() == {"decided": 2, "sent": 1, "dropped": 1}


async def test_late_reports_about_an_erased_user_are_refused_as_such(policy: Policy) -> None:
    one = await lived(policy, "ann")
    await erase(policy)

    engaged, visited = await report(policy, one), await visit(policy, "ann")

    assert [rejection.reason for rejection in engaged.rejections] == ["ERASED_USER"]
    assert [rejection.reason for rejection in visited.rejections] == ["ERASED_USER"]
    assert [one.reason for one in (await visit(policy, "bob")).rejections] == ["UNKNOWN_USER"]
    rows = await policy.rows("SELECT user_key FROM erased_users")
    assert all(b"ann" not in bytes(row.user_key) for row in rows)


async def test_erasing_beside_leases_and_reports_leaves_nothing_behind(policy: Policy) -> None:
    users = [f"user-{number}" for number in range(6)]
    await policy.upsert(*(recipient(user) for user in users))
    await policy.store([Sent(f"{user}-{k}", user_id=user) for user in users for k in range(5)])

    async def erase_all() -> None:
        for user in users:
            await erase(policy, user)

    await asyncio.gather(
        erase_all(), *(policy.lease(f"pacer-{number}", limit=5) for number in range(6))
    )

    assert await policy.rows("SELECT user_id FROM outbox") == []
    assert await policy.rows("SELECT user_id FROM fatigue WHERE user_id <> 'ann'") == []
    assert await policy.volume() == {"decided": 30, "dropped": 30}


async def test_a_malformed_user_is_refused(policy: Policy) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await erase(policy, "")

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
