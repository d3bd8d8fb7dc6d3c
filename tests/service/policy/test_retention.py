"""What is dropped when it is past its retention, and what must not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call
from heliograph.policy.v1alpha1 import deliveries_pb2, feed_pb2, policy_pb2_grpc
from heliograph.type.v1alpha1 import notification_pb2
from sqlalchemy import text

from services.policy import feed_entries, feed_store
from services.runtime.clock import at
from services.runtime.database import Database
from services.runtime.partitions import ensure_day_partitions, existing_days
from tests.conftest import OpenDatabase, StartSystem
from tests.service.policy.asked import READY, decide, event, ready
from tests.service.policy.recorded import Policy, Sent, delivered, recipient

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
DAY = timedelta(days=1)
KEPT_DAYS = {
    "decisions": 90,
    "outbox": 90,
    "engagements": 90,
    "volume": 90,
    "offers": 14,
    "controller_steps": 14,
    "sessions": 400,
    "feed": 30,
}
"""By table, as the settings say by default."""


@pytest.fixture
async def policy(start_system: StartSystem, open_database: OpenDatabase) -> AsyncIterator[Policy]:
    """The service, which deletes two rows at a time."""
    environ = {"HELIOGRAPH_POLICY_CLEAN_BATCH": "2"}
    async with start_system("policy", simulation=True, environ=environ) as system:
        stub = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
        running = Policy(stub, open_database("policy"))
        await running.upsert(recipient(), moment=NOW)
        yield running


async def clean(policy: Policy, now: datetime = NOW + DAY) -> date:
    """Let the periodic tasks run at a time; its day."""
    await policy.upsert(recipient(), moment=now)
    return now.date()


async def days_of(policy: Policy, table: str) -> list[date]:
    async with policy.database.read() as work:
        return await existing_days(work, table)


async def test_old_days_go_and_young_ones_stay(policy: Policy) -> None:
    today = (NOW + DAY).date()
    async with policy.database.unit_of_work() as work:
        for table, count in KEPT_DAYS.items():
            oldest = today - count * DAY
            await ensure_day_partitions(work, table, [oldest - 30 * DAY, oldest - DAY, oldest])
        await work.commit()

    await clean(policy)

    for table, count in KEPT_DAYS.items():
        assert await days_of(policy, table) == [today - count * DAY], table


async def test_an_open_delivery_keeps_its_day_until_it_has_ended(policy: Policy) -> None:
    """Invariant 7: retention loses no delivery."""
    waiting = Sent("waiting", decide_time=NOW - 95 * DAY, expire_time=None)
    gone = Sent("gone", decide_time=NOW - 99 * DAY, expire_time=None)
    await policy.store([gone])
    await policy.lease(moment=NOW)
    await policy.ack(delivered(gone), moment=NOW)
    await policy.store([waiting])

    await clean(policy)
    assert await days_of(policy, "outbox") == [waiting.day]
    (leased,) = (await policy.lease(moment=NOW + DAY)).deliveries
    assert leased.delivery_id == waiting.delivery_id
    await policy.ack(delivered(waiting), moment=NOW + DAY)
    assert await policy.volume() == {"decided": 1, "sent": 1}

    await clean(policy, NOW + 2 * DAY)
    assert await days_of(policy, "outbox") == []
    assert await days_of(policy, "volume") == []


async def test_decided_events_are_forgotten_in_batches(policy: Policy) -> None:
    oldest = (NOW + DAY).date() - 130 * DAY
    rows = [("ann", f"old-{k}", "d", oldest - k * DAY, True) for k in range(1, 8)]
    rows += [("ann", f"young-{k}", "d", oldest + k * DAY, True) for k in range(3)]
    async with policy.database.unit_of_work() as work:
        columns = ("user_id", "event_id", "decision_id", "day", "sent")
        await work.copy("decided_events", columns, rows)
        await work.commit()

    await clean(policy)

    left = await policy.rows("SELECT event_id FROM decided_events ORDER BY 1")
    assert [row.event_id for row in left] == ["young-0", "young-1", "young-2"]


async def test_an_event_is_not_decided_again_while_it_may_still_come(policy: Policy) -> None:
    """Invariant 3: an event lives for 90 days at most, and its decision is gone by then."""
    one = event("a", kind=READY.name, expire_time=NOW + 95 * DAY)
    (made,) = (await decide(policy, ready(one), moment=NOW)).decisions
    assert made.send
    (delivery,) = (await policy.lease(moment=NOW)).deliveries
    ack = deliveries_pb2.DeliveryAck(
        delivery_id=delivery.delivery_id, end=deliveries_pb2.DELIVERY_END_DELIVERED
    )
    await policy.ack(ack, moment=NOW)

    later = NOW + 92 * DAY
    (again,) = (await decide(policy, ready(one, time=later), moment=later)).decisions

    assert await days_of(policy, "decisions") == [later.date()]
    assert not again.send
    assert again.outcomes[0].end == notification_pb2.EVENT_END_SUPPRESSED
    assert again.outcomes[0].reason == "DUPLICATE"


async def append(database: Database, moment: datetime, *keys: str) -> None:
    entries = [feed_entries.session("ann", moment, key, app_deleted=False) for key in keys]
    async with database.unit_of_work() as work:
        await feed_store.append(work, moment, entries)
        await work.commit()


async def read(policy: Policy, cursor: str, moment: datetime) -> tuple[list[str], str]:
    with at(moment):
        answer = await policy.stub.ReadFeed(feed_pb2.ReadFeedRequest(cursor=cursor))
    return [one.session.session_id for one in answer.entries], answer.cursor


async def refusal(policy: Policy, cursor: str, moment: datetime) -> str:
    """The reason with which the feed refuses a cursor."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await read(policy, cursor, moment)
    assert failure.value.code() is grpc.StatusCode.OUT_OF_RANGE
    status = from_call(failure.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert any(detail.Unpack(info) for detail in status.details)
    return info.reason


async def test_a_reader_that_was_away_too_long_is_told_so(policy: Policy) -> None:
    _, start = await read(policy, "", NOW)
    await append(policy.database, NOW, "first")
    _, early = await read(policy, "", NOW)
    await append(policy.database, NOW + DAY, "second")
    _, just = await read(policy, early, NOW + DAY)
    await append(policy.database, NOW + 20 * DAY, "third")
    later = NOW + 40 * DAY

    assert await refusal(policy, early, later) == "CURSOR_EXPIRED"
    assert (await read(policy, just, later))[0] == ["third"]
    assert (await read(policy, start, later))[0] == ["third"]
    assert start == ""

    last = NOW + 60 * DAY
    assert await refusal(policy, just, last) == "CURSOR_EXPIRED"
    assert await read(policy, "", last) == ([], "")


async def test_a_cursor_of_the_future_is_refused(policy: Policy) -> None:
    await append(policy.database, NOW, "first")
    _, cursor = await read(policy, "", NOW)

    xid = int(cursor.partition(":")[0])
    assert await refusal(policy, f"{xid + 10**6}:1", NOW) == "CURSOR_OUT_OF_RANGE"


async def test_a_read_beside_the_drop_skips_nothing(policy: Policy) -> None:
    await append(policy.database, NOW, "first")
    _, cursor = await read(policy, "", NOW)
    await append(policy.database, NOW + DAY, "second")
    await append(policy.database, NOW + 20 * DAY, "third")

    async with policy.database.unit_of_work() as work, asyncio.TaskGroup() as tasks:
        await feed_store.drop_before(work, (NOW + 10 * DAY).date())
        reading = tasks.create_task(refusal(policy, cursor, NOW))
        await until_one_waits(policy.database)
        await work.commit()

    assert reading.result() == "CURSOR_EXPIRED"


async def until_one_waits(database: Database) -> None:
    """Return when a statement of the database waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while True:
        async with database.read() as work:
            ((count,),) = await work.rows(waiting)
        if count:
            return
        await asyncio.sleep(0.01)
