"""The way of the data, through all five services: publish → decision → delivery → inbox or file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.candidate.v1alpha1 import (
    candidate_pb2_grpc,
    catalogue_pb2,
    pool_pb2,
    publishing_pb2,
    recommending_pb2,
)
from heliograph.pacer.v1alpha1 import pacer_pb2, pacer_pb2_grpc
from heliograph.policy.v1alpha1 import (
    control_pb2,
    decide_pb2,
    explanation_pb2,
    feed_pb2,
    policy_pb2_grpc,
    recipients_pb2,
    sendability_pb2,
    stop_switches_pb2,
)
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from services.runtime.clock import at
from services.runtime.settings import SERVICE_NAMES
from tests.conftest import RunningSystem, StartSystem

NIGHT = datetime(2026, 1, 5, 3, tzinfo=UTC)
NOON = NIGHT.replace(hour=12)
SLOT = NIGHT.replace(hour=13)
PUSH, EMAIL = notification_pb2.CHANNEL_PUSH, notification_pb2.CHANNEL_EMAIL
USERS = [f"user-{number:02}" for number in range(12)]


class Way:
    """The services, and a product team's and an app's first calls made."""

    def __init__(self, system: RunningSystem, file: Path) -> None:
        self.file = file
        self.candidate = candidate_pb2_grpc.CandidateServiceStub(system.channel("candidate"))
        self.policy = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
        self.pacer = pacer_pb2_grpc.PacerServiceStub(system.channel("pacer"))

    async def prepare(self) -> None:
        with at(NIGHT - timedelta(days=1)):
            await self._put_type("chat.message", event_pb2.ROUTE_IMMEDIATE, [PUSH])
            await self._put_type("receipt", event_pb2.ROUTE_IMMEDIATE, [EMAIL])
            await self._put_type("movie.suggestion", event_pb2.ROUTE_RANKED, [PUSH])
            users = [event_pb2.User(user_id=user) for user in USERS]
            await self.candidate.UpsertUsers(iter([catalogue_pb2.UpsertUsersRequest(users=users)]))
            items = [event_pb2.Item(item_id=f"film-{n}", title=f"Film {n}") for n in range(3)]
            await self.candidate.UpsertItems(iter([catalogue_pb2.UpsertItemsRequest(items=items)]))
            answer = await self.policy.UpsertRecipients(
                iter([recipients_pb2.UpsertRecipientsRequest(recipients=map(_recipient, USERS))])
            )
            assert answer.accepted_count == len(USERS)

    async def _put_type(self, name: str, route: event_pb2.Route.ValueType, channels: Any) -> None:
        await self.candidate.PutEventType(
            catalogue_pb2.PutEventTypeRequest(
                event_type=event_pb2.EventType(
                    name=name,
                    route=route,
                    channels=channels,
                    templates=[
                        event_pb2.Template(channel=channel, title="{{ payload.text }}", body=name)
                        for channel in channels
                    ],
                )
            )
        )

    async def publish(self, moment: datetime, *events: event_pb2.Event) -> None:
        with at(moment):
            answer = await self.candidate.PublishEvents(
                publishing_pb2.PublishEventsRequest(events=events)
            )
        assert answer.accepted_count == len(events), answer.rejections

    async def process(self, moment: datetime) -> pacer_pb2.ProcessUsersResponse:
        with at(moment):
            return await self.pacer.ProcessUsers(pacer_pb2.ProcessUsersRequest(), timeout=60)

    async def decide(
        self, moment: datetime, slots: Sequence[decide_pb2.Slot], **fields: Any
    ) -> list[decide_pb2.Decision]:
        """As the pacer would have, killed before it settled or delivered. All slots' events are of
        one type."""
        (name,) = {event.event_type for slot in slots for event in slot.events}
        with at(moment):
            kind = await self.candidate.GetEventType(catalogue_pb2.GetEventTypeRequest(name=name))
            answer = await self.policy.Decide(
                decide_pb2.DecideRequest(slots=slots, event_types=[kind.event_type], **fields)
            )
        assert len(answer.decisions) == len(slots), answer.rejections
        return list(answer.decisions)

    async def delete(self, moment: datetime, item_id: str) -> None:
        gone = event_pb2.Item(item_id=item_id, deleted=True)
        with at(moment):
            await self.candidate.UpsertItems(iter([catalogue_pb2.UpsertItemsRequest(items=[gone])]))

    async def pools(self, moment: datetime) -> list[pool_pb2.UserPool]:
        with at(moment):
            answer = await self.candidate.ReadPool(pool_pb2.ReadPoolRequest(user_ids=USERS))
        return list(answer.pools)

    async def used_caps(self, moment: datetime) -> dict[str, int]:
        """How many sends count against each user's daily cap."""
        with at(moment):
            call = self.policy.StreamSendability(sendability_pb2.StreamSendabilityRequest())
            chunks = [chunk async for chunk in call]
        return {
            user: cap - left
            for chunk in chunks
            for user, cap, left in zip(
                chunk.user_ids, chunk.daily_caps, chunk.remaining_today, strict=True
            )
        }

    async def volume(self, moment: datetime) -> tuple[int, int]:
        """Messages of the day: handed to channels, and on their way."""
        with at(moment):
            call = self.policy.WatchVolume(control_pb2.WatchVolumeRequest(once=True))
            (state,) = [answer async for answer in call]
        sent = sum(cell.sent_count for cell in state.cells)
        return sent, sum(cell.in_flight_count for cell in state.cells)

    async def inbox(self, user: str) -> list[pacer_pb2.InboxMessage]:
        answer = await self.pacer.ReadInbox(pacer_pb2.ReadInboxRequest(user_id=user))
        return list(answer.messages)

    async def explain(self, decision_id: str) -> explanation_pb2.ExplainDecisionResponse:
        return await self.policy.ExplainDecision(
            explanation_pb2.ExplainDecisionRequest(decision_id=decision_id)
        )


def _interactions() -> list[event_pb2.Interaction]:
    """Of sixteen days, so that a model of them looks two days ahead."""
    return [
        event_pb2.Interaction(
            user_id=user,
            item_id=f"film-{(number + place) % 3}",
            interact_time=_stamp(NIGHT - timedelta(days=day)),
        )
        for number, user in enumerate(USERS)
        for place, day in enumerate((16, number % 5))
    ]


def _recipient(user: str) -> recipients_pb2.Recipient:
    addresses = {PUSH: "token", EMAIL: f"{user}@example.org"}
    return recipients_pb2.Recipient(
        user_id=user,
        opt_ins=[PUSH, EMAIL],
        time_zone="UTC",
        locale="en",
        endpoints=[
            recipients_pb2.Endpoint(channel=channel, address=address)
            for channel, address in addresses.items()
        ],
        slot_hours=[13, 18],
    )


def _stamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def event(user: str, event_id: str, event_type: str, **fields: Any) -> event_pb2.Event:
    payload = {"text": f"{event_id} for {user}"}
    return event_pb2.Event(
        user_id=user, event_id=event_id, event_type=event_type, payload=payload, **fields
    )


@pytest.fixture
async def way(start_system: StartSystem, tmp_path: Path) -> AsyncIterator[Way]:
    file = tmp_path / "mails.jsonl"
    environ = {"HELIOGRAPH_PACER_FILE_PATH": str(file)}
    async with start_system(*SERVICE_NAMES, simulation=True, environ=environ) as system:
        prepared = Way(system, file)
        await prepared.prepare()
        yield prepared


async def test_immediate_event_is_in_the_inbox_after_one_pass(way: Way) -> None:
    await way.publish(NOON, event("user-00", "hello", "chat.message"))
    answer = await way.process(NOON)
    assert (answer.ready_count, answer.send_count, answer.delivery_count) == (1, 1, 1)
    (message,) = await way.inbox("user-00")
    assert message.title == "hello for user-00"
    explained = await way.explain(message.decision_id)
    assert explained.decision.event_id == "hello"
    assert explained.delivery_state == "delivered"
    listed = await way.candidate.ListUserEvents(
        publishing_pb2.ListUserEventsRequest(user_id="user-00")
    )
    assert [known.end for known in listed.events] == [notification_pb2.EVENT_END_SENT]


async def test_the_same_event_published_again_is_sent_once(way: Way) -> None:
    for minute in range(3):
        moment = NOON + timedelta(minutes=minute)
        await way.publish(moment, event("user-00", "hello", "chat.message"))
        await way.process(moment)
    assert len(await way.inbox("user-00")) == 1


async def test_email_goes_to_the_file(way: Way) -> None:
    await way.publish(NOON, event("user-01", "bill", "receipt"))
    assert (await way.process(NOON)).delivery_count == 1
    (line,) = map(json.loads, way.file.read_text().splitlines())
    assert line["address"] == "user-01@example.org"
    assert line["title"] == "bill for user-01"
    assert not await way.inbox("user-01")


async def test_quiet_hours_defer_an_immediate_event_to_the_morning(way: Way) -> None:
    await way.publish(NIGHT, event("user-00", "late", "chat.message"))
    assert (await way.process(NIGHT)).delivery_count == 0
    assert not await way.inbox("user-00")
    assert (await way.process(NIGHT.replace(hour=8))).delivery_count == 1
    assert len(await way.inbox("user-00")) == 1


async def test_ranked_events_wait_for_the_slot_and_are_decided_once(way: Way) -> None:
    suggestions = [
        event(user, f"see-{n}", "movie.suggestion", item_ids=[f"film-{n}"], source_score=0.5)
        for user in USERS
        for n in range(3)
    ]
    await way.publish(NOON, *suggestions)
    assert (await way.process(NOON)).slot_count == 0
    answer = await way.process(SLOT)
    assert answer.slot_count == len(USERS)
    assert answer.delivery_count == answer.send_count
    sent = 0
    for user in USERS:
        slots = await way.pacer.ListSlots(pacer_pb2.ListSlotsRequest(user_id=user))
        waiting, closed = slots.slots
        assert closed.slot_id == "20260105T1300"
        assert waiting.slot_id == "20260105T1800"
        explained = await way.explain(closed.decision_id)
        messages = await way.inbox(user)
        assert [m.decision_id for m in messages] == [closed.decision_id] * explained.decision.send
        assert abs(sum(option.propensity for option in explained.options) - 1) < 1e-9
        sent += explained.decision.send
    assert sent == answer.send_count > 0
    assert (await way.process(SLOT)).slot_count == 0


async def test_stop_switch_keeps_a_decided_delivery_back(way: Way) -> None:
    stop = stop_switches_pb2.StopSwitch(channel=PUSH)
    with at(NOON):
        await way.policy.Pause(stop_switches_pb2.PauseRequest(stop_switch=stop, reason="drill"))
    await way.publish(NOON, event("user-00", "hello", "chat.message"))
    assert (await way.process(NOON)).delivery_count == 0
    with at(NOON + timedelta(hours=1)):
        await way.policy.Resume(stop_switches_pb2.ResumeRequest(stop_switch=stop))
    await way.process(NOON + timedelta(hours=3))
    assert len(await way.inbox("user-00")) == 1


async def test_a_message_about_an_item_deleted_since_is_dropped(way: Way) -> None:
    about = [event(USERS[n], "see", "chat.message", item_ids=[f"film-{n}"]) for n in range(2)]
    await way.publish(NOON, *about)
    slots = [
        decide_pb2.Slot(
            user_id=e.user_id, slot_id=f"event:{e.event_id}", slot_time=_stamp(NOON), events=[e]
        )
        for e in about
    ]
    await way.decide(NOON, slots)
    await way.delete(NOON, "film-0")
    answer = await way.process(NOON)
    assert (answer.delivery_count, answer.dropped_count) == (1, 1)
    assert not await way.inbox(USERS[0])
    assert len(await way.inbox(USERS[1])) == 1


async def test_an_item_deleted_before_the_decision_is_left_out_of_the_message(way: Way) -> None:
    await way.publish(NOON, *map(_of_two_films, USERS))
    assert (await way.process(NOON)).slot_count == 0
    await way.delete(NOON, "film-0")
    answer = await way.process(SLOT)
    assert answer.delivery_count == answer.send_count > 0
    assert answer.dropped_count == 0
    messages = [message for user in USERS for message in await way.inbox(user)]
    assert [list(message.item_ids) for message in messages] == [["film-1"]] * answer.send_count
    assert sum((await way.used_caps(SLOT)).values()) == answer.send_count
    assert await way.volume(SLOT) == (answer.send_count, 0)


async def test_an_item_deleted_after_the_decision_stops_the_message(way: Way) -> None:
    await way.publish(NOON, *map(_of_two_films, USERS))
    assert (await way.process(NOON)).slot_count == 0
    slots = [
        decide_pb2.Slot(
            user_id=pool.user_id,
            slot_id="20260105T1300",
            slot_time=_stamp(SLOT),
            events=pool.events,
            scores=[0.9],
        )
        for pool in await way.pools(SLOT)
    ]
    decisions = await way.decide(SLOT, slots, heads=[notification_pb2.HEAD_PUSH_OPEN])
    sends = [decision for decision in decisions if decision.send]
    assert sends
    assert await way.used_caps(SLOT) == {d.user_id: int(d.send) for d in decisions}
    assert await way.volume(SLOT) == (0, len(sends))

    await way.delete(SLOT, "film-0")
    answer = await way.process(SLOT)
    again = await way.process(SLOT + timedelta(minutes=1))

    assert (answer.slot_count, answer.send_count) == (len(USERS), len(sends))
    assert (answer.delivery_count, answer.dropped_count) == (0, len(sends))
    assert (again.delivery_count, again.dropped_count) == (0, 0)
    assert not [message for user in USERS for message in await way.inbox(user)]
    assert await way.used_caps(SLOT) == dict.fromkeys(USERS, 0)
    assert await way.volume(SLOT) == (0, 0)
    entries = (await way.policy.ReadFeed(feed_pb2.ReadFeedRequest())).entries
    drops = [entry.drop for entry in entries if entry.WhichOneof("entry") == "drop"]
    assert sorted((drop.delivery_id, drop.reason) for drop in drops) == sorted(
        (decision.delivery_id, "WITHDRAWN") for decision in sends
    )
    explained = await way.explain(sends[0].decision_id)
    assert (explained.delivery_state, explained.delivery_detail) == ("dropped", "WITHDRAWN")


def _of_two_films(user: str) -> event_pb2.Event:
    films = ["film-0", "film-1"]
    return event(user, "see", "movie.suggestion", item_ids=films, source_score=0.5)


async def test_forgotten_user_is_gone_everywhere(way: Way) -> None:
    await way.publish(NOON, event("user-00", "hello", "chat.message"))
    await way.process(NOON)
    assert len(await way.inbox("user-00")) == 1
    with at(NOON + timedelta(minutes=1)):
        answer = await way.pacer.ForgetUser(pacer_pb2.ForgetUserRequest(user_id="user-00"))
    assert list(answer.done_services) == sorted(SERVICE_NAMES)
    assert not answer.pending_services
    assert not await way.inbox("user-00")
    contexts = await way.policy.GetUserContexts(
        recipients_pb2.GetUserContextsRequest(user_ids=["user-00"])
    )
    assert not contexts.contexts


async def test_a_relevance_is_a_probability_within_a_stated_horizon(way: Way) -> None:
    asked = catalogue_pb2.RecordInteractionsRequest(interactions=_interactions())
    with at(NIGHT):
        await way.candidate.RecordInteractions(iter([asked]))
        item = event_pb2.Item(item_id="premiere", title="Film 4")  # has a first model fitted
        new = await way.candidate.RecommendUsersToItem(
            recommending_pb2.RecommendUsersToItemRequest(item=item)
        )
        answers = [
            new,
            await way.candidate.EstimateAudience(
                recommending_pb2.EstimateAudienceRequest(item_id="film-1")
            ),
            await way.candidate.RecommendItemsToUser(
                recommending_pb2.RecommendItemsToUserRequest(user_id=USERS[0])
            ),
            await way.candidate.RecommendItemsToSegment(
                recommending_pb2.RecommendItemsToSegmentRequest(user_ids=USERS[:3])
            ),
        ]
    assert len(new.users) == len(USERS)
    assert all(0 < user.relevance < 1 for user in new.users)
    for answer in answers:
        assert answer.horizon.ToTimedelta() == timedelta(days=2)
