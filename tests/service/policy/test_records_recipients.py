"""UpsertRecipients, PutPreferences, Snooze, GetUserContexts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.policy.v1alpha1 import recipients_pb2

from services.policy.timestamps import timestamp
from services.runtime.clock import at
from tests.service.policy.recorded import EMAIL, IN_APP, NOW, PUSH, Policy, recipient


async def contexts(policy: Policy, *users: str, moment: datetime = NOW) -> list[Any]:
    with at(moment):
        answer = await policy.stub.GetUserContexts(
            recipients_pb2.GetUserContextsRequest(user_ids=users)
        )
    return list(answer.contexts)


async def put(policy: Policy, user_id: str = "ann", **fields: Any) -> recipients_pb2.Preferences:
    request = recipients_pb2.PutPreferencesRequest(
        user_id=user_id, preferences=recipients_pb2.Preferences(**fields)
    )
    with at(NOW):
        return (await policy.stub.PutPreferences(request)).preferences


async def test_a_context_tells_segment_zone_locale_and_slots(policy: Policy) -> None:
    await policy.upsert(recipient("bob", create_time=None, locale="pt-BR", slot_hours=[8]))

    bob, ann = await contexts(policy, "bob", "nobody", "ann")

    assert (bob.user_id, bob.segment, bob.locale) == ("bob", "new", "pt-BR")
    assert [slot.ToDatetime(tzinfo=UTC).isoformat() for slot in bob.next_slot_times[:2]] == [
        "2026-01-06T13:00:00+00:00",
        "2026-01-07T13:00:00+00:00",
    ]
    assert (ann.user_id, ann.segment, ann.time_zone) == ("ann", "dormant", "America/New_York")
    assert ann.next_slot_times[0].ToDatetime(tzinfo=UTC).hour == 18
    assert list(ann.hour_profile) == []


async def test_a_bad_recipient_does_not_lose_the_good_ones(policy: Policy) -> None:
    answer = await policy.upsert(
        recipient("good-1"),
        recipient("a\nb"),
        recipient("lost", time_zone="Mars/Base"),
        recipient("bad-locale", locale="not a locale"),
        recipient("bad-channel", opt_ins=[PUSH, PUSH]),
        recipient("bad-time", create_time=Timestamp(seconds=2**60)),
        recipient("good-2"),
    )

    assert (answer.accepted_count, answer.rejected_count) == (2, 5)
    found = {one.index: (one.reason, [field.field for field in one.fields]) for one in
             answer.rejections}  # fmt: skip
    assert found == {
        1: ("INVALID_FIELD", ["user_id"]),
        2: ("UNKNOWN_TIME_ZONE", ["time_zone"]),
        3: ("INVALID_FIELD", ["locale"]),
        4: ("INVALID_FIELD", ["opt_ins"]),
        5: ("INVALID_FIELD", ["create_time"]),
    }
    assert {one.user_id for one in await contexts(policy, "good-1", "good-2", "lost")} == {
        "good-1",
        "good-2",
    }


async def test_indexes_go_on_over_the_messages_of_a_stream(policy: Policy) -> None:
    requests = [
        recipients_pb2.UpsertRecipientsRequest(recipients=[recipient("a"), recipient("")]),
        recipients_pb2.UpsertRecipientsRequest(recipients=[recipient(""), recipient("b")]),
    ]
    with at(NOW):
        answer = await policy.stub.UpsertRecipients(iter(requests))

    assert answer.accepted_count == 2
    assert [one.index for one in answer.rejections] == [1, 2]


async def test_an_upsert_replaces_all_but_preferences_activity_and_join_time(
    policy: Policy,
) -> None:
    await put(policy, muted_topics={"movies": True})
    joined = "SELECT create_time, muted_topics, opt_ins, reachable FROM recipients"

    await policy.upsert(
        recipient("ann", opt_ins=[EMAIL], endpoints=[], create_time=None),
        moment=NOW + timedelta(days=1),
    )

    (row,) = await policy.rows(joined)
    assert row.create_time == NOW - timedelta(days=100)
    assert row.muted_topics == ["movies"]
    assert (row.opt_ins, row.reachable) == (2, 0)
    assert await policy.rows("SELECT * FROM endpoints") == []


async def test_of_one_user_twice_in_a_batch_the_last_counts(policy: Policy) -> None:
    answer = await policy.upsert(recipient("ann", locale="de"), recipient("ann", locale="fr"))

    assert answer.accepted_count == 2
    (ann,) = await contexts(policy, "ann")
    assert ann.locale == "fr"


async def test_no_address_is_stored_in_the_clear(policy: Policy) -> None:
    rows = await policy.rows("SELECT * FROM endpoints")

    assert len(rows) == 3
    stored = b"".join(bytes(row.sealed_address) + bytes(row.address_key) for row in rows)
    assert b"token" not in stored
    assert b"example" not in stored


async def test_a_channel_whose_only_endpoint_fails_is_unreachable(policy: Policy) -> None:
    broken = recipients_pb2.Endpoint(channel=PUSH, address="old", unreachable=True)
    inbox = recipients_pb2.Endpoint(channel=IN_APP, address="ann")

    await policy.upsert(recipient("ann", endpoints=[broken, inbox]))

    (row,) = await policy.rows("SELECT reachable FROM recipients")
    assert row.reachable == 4


async def test_each_recipient_has_a_fatigue_row(policy: Policy) -> None:
    await policy.upsert(recipient("ann"), recipient("bob"))

    rows = await policy.rows("SELECT user_id, send_times FROM fatigue ORDER BY user_id")
    assert [tuple(row) for row in rows] == [("ann", []), ("bob", [])]


async def test_preferences_not_named_stay(policy: Policy) -> None:
    await put(policy, muted_topics={"a": True, "b": True}, muted_channels={"CHANNEL_PUSH": True})
    quiet = recipients_pb2.QuietHours(start_minute=60, end_minute=120)

    stored = await put(policy, muted_topics={"a": False}, quiet_hours=quiet)

    assert dict(stored.muted_topics) == {"b": True}
    assert dict(stored.muted_channels) == {"CHANNEL_PUSH": True}
    assert stored.quiet_hours == quiet


async def test_the_quiet_hours_in_force_are_the_default_ones_until_set(policy: Policy) -> None:
    stored = await put(policy)

    assert (stored.quiet_hours.start_minute, stored.quiet_hours.end_minute) == (1320, 480)


async def test_preferences_of_an_unknown_user_are_not_found(policy: Policy) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await put(policy, "nobody", muted_topics={"a": True})

    assert failure.value.code() is grpc.StatusCode.NOT_FOUND


async def test_too_many_muted_topics_are_refused_and_change_nothing(policy: Policy) -> None:
    await put(policy, muted_topics={f"t{number}": True for number in range(256)})

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await put(policy, muted_topics={"one.more": True})

    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert len((await put(policy)).muted_topics) == 256


@pytest.mark.parametrize(
    "fields",
    [
        {"muted_channels": {"CHANNEL_FAX": True}},
        {"muted_topics": {"": True}},
        {"muted_topics": {"nul\0": True}},
        {"quiet_hours": recipients_pb2.QuietHours(start_minute=1440)},
    ],
)
async def test_malformed_preferences_are_refused(policy: Policy, fields: dict[str, Any]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await put(policy, **fields)

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_snooze_ends_with_one_in_the_past(policy: Policy) -> None:
    async def snooze(until: datetime, user_id: str = "ann") -> None:
        request = recipients_pb2.SnoozeRequest(user_id=user_id, until_time=timestamp(until))
        with at(NOW):
            await policy.stub.Snooze(request)

    stored = "SELECT snooze_until FROM recipients"
    await snooze(NOW + timedelta(days=2))
    assert (await policy.rows(stored))[0].snooze_until == NOW + timedelta(days=2)
    await snooze(NOW - timedelta(days=2))
    assert (await policy.rows(stored))[0].snooze_until is None
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await snooze(NOW, "nobody")
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("users", [[], [""], ["x"] * 1001, ["a" * 129]])
async def test_malformed_context_requests_are_refused(policy: Policy, users: list[str]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await contexts(policy, *users)

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
