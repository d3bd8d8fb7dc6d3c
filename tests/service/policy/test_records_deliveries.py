"""LeaseDeliveries and AckDeliveries, and invariants 4, 7 and 12 on them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from heliograph.policy.v1alpha1 import deliveries_pb2, recipients_pb2, stop_switches_pb2

from services.policy.timestamps import timestamp
from services.runtime.clock import at
from tests.service.policy.recorded import (
    EMAIL,
    NOW,
    PUSH,
    Policy,
    Sent,
    delivered,
    recipient,
)

LATER = NOW + timedelta(minutes=2)


async def states(policy: Policy) -> dict[str, str]:
    rows = await policy.rows("SELECT delivery_id, state FROM outbox")
    return {row.delivery_id: row.state for row in rows}


def give_up(
    one: Sent, end: deliveries_pb2.DeliveryEnd.ValueType = deliveries_pb2.DELIVERY_END_DEAD
) -> deliveries_pb2.DeliveryAck:
    return deliveries_pb2.DeliveryAck(delivery_id=one.delivery_id, end=end, error="refused")


def retry(one: Sent, after: timedelta) -> deliveries_pb2.DeliveryAck:
    return deliveries_pb2.DeliveryAck(
        delivery_id=one.delivery_id,
        end=deliveries_pb2.DELIVERY_END_RETRY,
        retry_time=timestamp(NOW + after),
        error="busy",
    )


async def test_a_lease_hands_out_the_oldest_first_with_what_the_channel_needs(
    policy: Policy,
) -> None:
    new, old = Sent("new"), Sent("old", decide_time=NOW - timedelta(minutes=5), channel=EMAIL)
    await policy.store([new, old])

    answer = await policy.lease()

    assert [one.delivery_id for one in answer.deliveries] == [old.delivery_id, new.delivery_id]
    first = answer.deliveries[0]
    assert (first.address, first.channel, first.attempt) == ("ann@example.org", EMAIL, 1)
    assert (first.decision_id, first.event.event_id) == (old.decision_id, "event-old")
    assert first.expire_time.ToDatetime() == old.expire_time.replace(tzinfo=None)  # type: ignore[union-attr]
    assert not (await policy.lease("pacer-2")).deliveries


async def test_a_limit_leaves_the_rest_for_the_next_call(policy: Policy) -> None:
    await policy.store([Sent(str(number)) for number in range(5)])

    first = await policy.lease(limit=3)
    second = await policy.lease(limit=3)

    assert (len(first.deliveries), len(second.deliveries)) == (3, 2)


async def test_a_lease_that_runs_out_goes_to_the_next_caller(policy: Policy) -> None:
    one = Sent("1")
    await policy.store([one])
    await policy.lease("pacer-1")

    (again,) = (await policy.lease("pacer-2", moment=LATER)).deliveries

    assert (again.delivery_id, again.attempt) == (one.delivery_id, 2)


async def test_concurrent_leasers_never_get_the_same_delivery(policy: Policy) -> None:
    await policy.store([Sent(f"{number:03}") for number in range(300)])

    answers = await asyncio.gather(
        *(policy.lease(f"pacer-{number}", limit=40) for number in range(10))
    )

    leased = [one.delivery_id for answer in answers for one in answer.deliveries]
    assert len(leased) == len(set(leased))
    assert len(leased) >= 40
    rest = await policy.lease("last", limit=1000)
    assert len(leased) + len(rest.deliveries) == 300


async def test_a_delivery_handed_over_is_counted_and_told_once(policy: Policy) -> None:
    one = Sent("1")
    await policy.store([one])
    await policy.lease()
    acks = [delivered(one, variant_id="v1", style="warm")] * 2

    answers = await asyncio.gather(*(policy.ack(*acks) for _ in range(4)))

    assert [answer.accepted_count for answer in answers] == [2] * 4
    assert await policy.volume() == {"decided": 1, "sent": 1}
    (entry,) = await policy.feed()
    assert entry.WhichOneof("entry") == "send"
    assert (entry.user_id, entry.send.variant_id, entry.send.style) == ("ann", "v1", "warm")
    assert (list(entry.send.item_ids), entry.send.source_score) == (["m1"], 0.25)
    assert await policy.sends_of("ann") == [one.delivery_id]


async def test_a_critical_delivery_is_reported_apart(policy: Policy) -> None:
    one = Sent("1", critical=True)
    await policy.store([one])
    await policy.lease()

    await policy.ack(delivered(one))

    assert await policy.volume() == {"critical": 1}


async def test_the_first_end_stands(policy: Policy) -> None:
    one = Sent("1")
    await policy.store([one])
    await policy.lease()
    await policy.ack(delivered(one, variant_id="v1"))

    same = await policy.ack(delivered(one, variant_id="v2"), owner="pacer-2")
    other = await policy.ack(give_up(one))

    assert same.accepted_count == 1
    assert [rejection.reason for rejection in other.rejections] == ["ALREADY_ENDED"]
    (row,) = await policy.rows("SELECT state, variant_id FROM outbox")
    assert tuple(row) == ("delivered", "v1")
    assert await policy.volume() == {"decided": 1, "sent": 1}


async def test_a_retry_waits_for_its_time_and_keeps_its_cap(policy: Policy) -> None:
    one = Sent("1")
    await policy.store([one])
    await policy.lease()

    answers = [await policy.ack(retry(one, timedelta(minutes=10))) for _ in range(2)]

    assert [answer.accepted_count for answer in answers] == [1, 1]
    assert not (await policy.lease(moment=NOW + timedelta(minutes=9))).deliveries
    (again,) = (await policy.lease(moment=NOW + timedelta(minutes=10))).deliveries
    assert again.attempt == 2
    assert await policy.sends_of("ann") == [one.delivery_id]


async def test_a_retry_past_the_expiry_is_dropped_at_the_expiry(policy: Policy) -> None:
    one = Sent("1", expire_time=NOW + timedelta(hours=1))
    await policy.store([one])
    await policy.lease()
    await policy.ack(retry(one, timedelta(days=400)))

    answer = await policy.lease(moment=NOW + timedelta(hours=1))

    assert answer.dropped_count == 1
    assert await policy.sends_of("ann") == []


async def test_a_retry_in_quiet_hours_waits_for_their_end(policy: Policy) -> None:
    one, critical = Sent("1"), Sent("2", critical=True)
    await policy.store([one, critical])
    await policy.lease()
    night, morning = NOW + timedelta(hours=13), NOW + timedelta(hours=22)  # 23:00 and 8:00
    await policy.ack(*(retry(each, night - NOW) for each in (one, critical)))

    at_night = [await policy.lease(moment=night) for _ in range(2)]
    early = await policy.lease(moment=morning - timedelta(seconds=1))
    late = await policy.lease(moment=morning)

    assert [[each.delivery_id for each in answer.deliveries] for answer in at_night] == [
        [critical.delivery_id],
        [],
    ]
    assert one.delivery_id not in [each.delivery_id for each in early.deliveries]
    (again,) = (each for each in late.deliveries if each.delivery_id == one.delivery_id)
    assert again.attempt == 2
    assert await policy.sends_of("ann") == [one.delivery_id]
    assert await policy.volume() == {"decided": 1}


async def test_what_expires_in_quiet_hours_is_dropped(policy: Policy) -> None:
    night = NOW + timedelta(hours=13)
    one = Sent("1", expire_time=NOW + timedelta(hours=22))  # at the very end of the quiet hours
    await policy.store([one])

    answer = await policy.lease(moment=night)

    assert answer.dropped_count == 1
    assert [entry.drop.reason for entry in await policy.feed()] == ["QUIET_HOURS"]
    assert await policy.sends_of("ann") == []
    assert await policy.volume() == {"decided": 1, "dropped": 1}


async def test_those_that_wait_for_the_morning_hold_up_no_others(policy: Policy) -> None:
    night = NOW + timedelta(hours=13)
    await policy.upsert(recipient("tom", time_zone="Asia/Tokyo"))
    await policy.store([Sent(f"ann-{number}") for number in range(7)])
    awake = Sent("tom", user_id="tom", decide_time=NOW + timedelta(minutes=1))
    await policy.store([awake])

    (leased,) = (await policy.lease(moment=night, limit=3)).deliveries

    assert leased.delivery_id == awake.delivery_id


async def test_a_lease_that_ran_out_in_quiet_hours_still_takes_its_report(policy: Policy) -> None:
    one = Sent("1")
    await policy.store([one])
    evening = NOW + timedelta(hours=11, minutes=59, seconds=59)
    await policy.lease(moment=evening)
    assert not (await policy.lease("pacer-2", moment=NOW + timedelta(hours=13))).deliveries

    answer = await policy.ack(delivered(one), moment=NOW + timedelta(hours=13))

    assert answer.accepted_count == 1
    assert await states(policy) == {one.delivery_id: "delivered"}


async def test_a_dead_delivery_gives_volume_back_and_keeps_its_cap(policy: Policy) -> None:
    one = Sent("1")
    await policy.store([one])
    await policy.lease()

    await policy.ack(give_up(one))

    assert await policy.volume() == {"decided": 1, "dropped": 1}
    assert await policy.sends_of("ann") == [one.delivery_id]
    (entry,) = await policy.feed()
    assert entry.drop.reason == "DEAD"


async def test_a_withdrawn_delivery_gives_cap_and_volume_back_once(policy: Policy) -> None:
    one = Sent("1")
    await policy.store([one])
    await policy.lease()
    withdrawn = give_up(one, deliveries_pb2.DELIVERY_END_WITHDRAWN)

    answers = await asyncio.gather(*(policy.ack(withdrawn) for _ in range(3)))

    assert [answer.accepted_count for answer in answers] == [1] * 3
    assert await policy.volume() == {"decided": 1, "dropped": 1}
    assert await policy.sends_of("ann") == []
    assert [entry.drop.reason for entry in await policy.feed()] == ["WITHDRAWN"]
    assert await states(policy) == {one.delivery_id: "dropped"}


async def test_a_withdrawal_after_a_lost_lease_keeps_the_cap(policy: Policy) -> None:
    one, other = Sent("1"), Sent("2")
    await policy.store([one, other])
    await policy.lease(limit=1)
    await policy.lease("pacer-2", moment=LATER)  # the first was leased and never reported on
    await policy.ack(retry(one, timedelta(0)), owner="pacer-2", moment=LATER)
    await policy.lease("pacer-2", moment=LATER)
    withdrawn = [give_up(each, deliveries_pb2.DELIVERY_END_WITHDRAWN) for each in (one, other)]

    await policy.ack(*withdrawn, owner="pacer-2", moment=LATER)

    assert await policy.volume() == {"decided": 2, "dropped": 2}
    assert await policy.sends_of("ann") == [one.delivery_id]


async def test_an_unreachable_address_is_marked_and_the_next_one_taken(policy: Policy) -> None:
    endpoints = [recipients_pb2.Endpoint(channel=PUSH, address=f"token-{one}") for one in "ab"]
    await policy.upsert(recipient("ann", endpoints=endpoints))
    one, two, three = Sent("1"), Sent("2"), Sent("3")

    addresses = []
    for sent in (one, two):
        await policy.store([sent])
        (leased,) = (await policy.lease()).deliveries
        addresses.append(leased.address)
        await policy.ack(give_up(sent, deliveries_pb2.DELIVERY_END_UNREACHABLE))
    await policy.store([three])
    last = await policy.lease()

    assert sorted(addresses) == ["token-a", "token-b"]
    assert (list(last.deliveries), last.dropped_count) == ([], 1)
    assert [tuple(row) for row in await policy.rows("SELECT reachable FROM recipients")] == [(0,)]
    assert await policy.sends_of("ann") == []


async def test_only_the_lease_owner_may_give_up_or_retry(policy: Policy) -> None:
    one = Sent("1")
    await policy.store([one])
    await policy.lease("pacer-1")

    stranger = await policy.ack(give_up(one), retry(one, timedelta(0)), owner="pacer-2")

    assert [rejection.reason for rejection in stranger.rejections] == ["NOT_LEASED"] * 2
    assert await states(policy) == {one.delivery_id: "leased"}


async def test_a_late_report_of_a_delivery_counts_after_the_lease_went_on(policy: Policy) -> None:
    one = Sent("1")
    await policy.store([one])
    await policy.lease("pacer-1")
    await policy.lease("pacer-2", moment=LATER)

    answer = await policy.ack(delivered(one), owner="pacer-1", moment=LATER)

    assert answer.accepted_count == 1
    assert await states(policy) == {one.delivery_id: "delivered"}


async def _pause(policy: Policy, **scope: Any) -> None:
    request = stop_switches_pb2.PauseRequest(
        stop_switch=stop_switches_pb2.StopSwitch(**scope), reason="a test"
    )
    with at(NOW):
        await policy.stub.Pause(request)


async def _mute(policy: Policy, **fields: Any) -> None:
    with at(NOW):
        await policy.stub.PutPreferences(
            recipients_pb2.PutPreferencesRequest(
                user_id="ann", preferences=recipients_pb2.Preferences(**fields)
            )
        )


async def _snooze(policy: Policy) -> None:
    until = timestamp(NOW + timedelta(hours=1))
    with at(NOW):
        await policy.stub.Snooze(recipients_pb2.SnoozeRequest(user_id="ann", until_time=until))


CAUSES: dict[str, Any] = {
    "paused": (lambda policy: _pause(policy, all=True), "PAUSED", True),
    "paused channel": (lambda policy: _pause(policy, channel=PUSH), "PAUSED", True),
    "paused type": (lambda policy: _pause(policy, event_type="movie.suggestion"), "PAUSED", True),
    "paused campaign": (lambda policy: _pause(policy, campaign_id="spring"), "PAUSED", True),
    "opted out": (lambda policy: policy.upsert(recipient(opt_ins=[EMAIL])), "OPT_OUT", True),
    "no endpoint": (lambda policy: policy.upsert(recipient(endpoints=[])), "UNREACHABLE", True),
    "topic": (lambda policy: _mute(policy, muted_topics={"movies": True}), "MUTED", False),
    "channel": (
        lambda policy: _mute(policy, muted_channels={"CHANNEL_PUSH": True}),
        "MUTED",
        False,
    ),
    "snoozed": (_snooze, "SNOOZED", False),
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_what_changed_since_the_decision_drops_the_delivery(
    policy: Policy, cause: str
) -> None:
    change, reason, binds_critical = CAUSES[cause]
    one = Sent("1", campaign_id="spring")
    critical = Sent("2", campaign_id="spring", critical=True)
    await policy.store([one, critical])
    await change(policy)

    answer = await policy.lease()

    assert answer.dropped_count == (2 if binds_critical else 1)
    entries = {entry.drop.delivery_id: entry.drop.reason for entry in await policy.feed()}
    expected = {one.delivery_id} | ({critical.delivery_id} if binds_critical else set())
    assert entries == dict.fromkeys(expected, reason)
    assert await policy.sends_of("ann") == []
    assert await policy.volume() == {"decided": 1, "dropped": 1}
    assert (await states(policy))[one.delivery_id] == "dropped"


async def test_a_drop_takes_only_its_own_send_out_of_the_caps(policy: Policy) -> None:
    kept, dropped, also_kept = Sent("1"), Sent("2", channel=EMAIL), Sent("3")
    await policy.store([kept, dropped, also_kept])
    await policy.upsert(recipient(opt_ins=[PUSH]))

    await policy.lease()

    (row,) = await policy.rows("SELECT * FROM fatigue")
    assert row.send_deliveries == [kept.delivery_id, also_kept.delivery_id]
    assert row.send_channels == [PUSH, PUSH]
    assert len(row.send_times) == 2


async def test_concurrent_leases_give_caps_and_volume_back_once(policy: Policy) -> None:
    users = [f"user-{number}" for number in range(20)]
    await policy.upsert(*(recipient(user) for user in users))
    sends = [
        Sent(f"{user}-{number}", user_id=user, expire_time=NOW)
        for user in users
        for number in range(5)
    ]
    await policy.store(sends)

    answers = await asyncio.gather(
        *(policy.lease(f"pacer-{number}", limit=30) for number in range(12))
    )
    rest = [await policy.lease(limit=1000) for _ in range(2)]

    assert sum(answer.dropped_count for answer in [*answers, *rest]) == len(sends)
    assert await policy.volume() == {"decided": len(sends), "dropped": len(sends)}
    assert len(await policy.feed()) == len(sends)
    rows = await policy.rows("SELECT send_deliveries FROM fatigue")
    assert all(row.send_deliveries == [] for row in rows)


async def test_a_drop_after_a_lost_lease_keeps_the_cap_for_it_may_have_arrived(
    policy: Policy,
) -> None:
    one = Sent("1", expire_time=NOW + timedelta(minutes=1))
    await policy.store([one])
    await policy.lease()

    answer = await policy.lease(moment=LATER)

    assert answer.dropped_count == 1
    assert await policy.sends_of("ann") == [one.delivery_id]
    assert await policy.volume() == {"decided": 1, "dropped": 1}


async def test_bad_reports_do_not_lose_the_good_one(policy: Policy) -> None:
    one, waiting = Sent("1"), Sent("2")
    await policy.store([one])
    await policy.lease()
    await policy.store([waiting])

    answer = await policy.ack(
        delivered(one),
        deliveries_pb2.DeliveryAck(delivery_id=one.delivery_id),
        deliveries_pb2.DeliveryAck(
            delivery_id=one.delivery_id, end=deliveries_pb2.DELIVERY_END_RETRY
        ),
        deliveries_pb2.DeliveryAck(
            delivery_id="nonsense", end=deliveries_pb2.DELIVERY_END_DELIVERED
        ),
        deliveries_pb2.DeliveryAck(
            delivery_id="20260105.other", end=deliveries_pb2.DELIVERY_END_DELIVERED
        ),
        deliveries_pb2.DeliveryAck(
            delivery_id="20269999.other", end=deliveries_pb2.DELIVERY_END_DELIVERED
        ),
        delivered(waiting),
        delivered(one, style="nul\0"),
        deliveries_pb2.DeliveryAck(
            delivery_id=one.delivery_id, end=deliveries_pb2.DELIVERY_END_DEAD, error="x" * 1025
        ),
    )

    assert answer.accepted_count == 1
    assert {rejection.index: rejection.reason for rejection in answer.rejections} == {
        1: "INVALID_FIELD",
        2: "INVALID_FIELD",
        3: "UNKNOWN_DELIVERY",
        4: "UNKNOWN_DELIVERY",
        5: "UNKNOWN_DELIVERY",
        6: "NOT_LEASED",
        7: "INVALID_FIELD",
        8: "INVALID_FIELD",
    }
    assert (await states(policy))[one.delivery_id] == "delivered"


@pytest.mark.parametrize(
    "fields",
    [
        {"owner": ""},
        {"owner": "p", "limit": 5001},
        {"owner": "p", "lease_duration": timedelta(milliseconds=1)},
        {"owner": "p", "lease_duration": timedelta(hours=1)},
    ],
)
async def test_malformed_leases_are_refused(policy: Policy, fields: dict[str, Any]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await policy.stub.LeaseDeliveries(deliveries_pb2.LeaseDeliveriesRequest(**fields))

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
