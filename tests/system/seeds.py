"""Valid requests for every method, and the users, items and deliveries that they speak of.

Requests are filled from their descriptors, so that a new method has one without a change here; the
tables name what a plain value of a field's type doesn't satisfy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.candidate.v1alpha1 import (
    campaigns_pb2,
    candidate_pb2_grpc,
    catalogue_pb2,
    publishing_pb2,
    recommending_pb2,
    scenarios_pb2,
)
from heliograph.copygen.v1alpha1 import copygen_pb2, copygen_pb2_grpc
from heliograph.pacer.v1alpha1 import pacer_pb2, pacer_pb2_grpc
from heliograph.policy.v1alpha1 import (
    decide_pb2,
    deliveries_pb2,
    feed_pb2,
    policy_pb2_grpc,
    recipients_pb2,
)
from heliograph.ranker.v1alpha1 import ranker_pb2, ranker_pb2_grpc
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from tests.conftest import RunningSystem
from tests.system.hostile import is_map

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
PUSH = notification_pb2.CHANNEL_PUSH
TYPE, CRITICAL, ITEM = "item.suggestion", "security.code", "film-0"
FRESH, DELIVERY = "fresh000", "20260105.to-be-reported-00000"
"""In a seed these stand for a new key, and for a delivery that waits for its report. What they are
replaced by is as long, so that it can be done in the bytes of a request."""

# Values by the field's name (of lists, in the singular), by its message and name, and by the
# request and its path. What isn't named here gets a plain value of its type.
BY_NAME: dict[str, Any] = {
    "request_id": FRESH, "event_id": FRESH, "engagement_id": FRESH, "session_id": FRESH,
    "item_id": ITEM, "event_type": TYPE, "campaign_id": "spring", "variant_id": "words",
    "locale": "en", "time_zone": "UTC", "segment": "core", "experiment_group": "default",
    "day": "2026-01-05", "model_version": "", "version": "bootstrap-1", "topic": "films",
    "page_token": "", "cursor": "", "copy_style": "warm", "source": "popular", "owner": "fuzz",
    "expire_time": NOON + timedelta(hours=2), "once": True,
}  # fmt: skip
BY_MESSAGE: dict[str, dict[str, Any]] = {
    "AttributeDeclaration": {"name": "declared"},  # none that a user or an item has
    "RecommendationParameters": {
        "filter": "true",
        "booster": "2.0",
        "scenario": None,
        "scenario_values": None,
        # So few users would not be relevant enough, and have no attributes; items no budgets.
        "min_relevance": None,
        "diversity_attribute": None,
        "respect_budget": None,
    },
    "RecommendItemsToSegmentRequest": {"segment_filter": None},
    "Scenario": {"name": FRESH},
    "SpreadCap": {"user_count": 1_000_000},
    "TeamQuota": {"team": "fuzz"},
    "EventType": {"name": TYPE, "version": 0, "route": event_pb2.ROUTE_RANKED},
    "Aggregation": {"maximum_wait": timedelta(minutes=1), "minimum_count": 2},
    "GetEventTypeRequest": {"name": TYPE},
    "Template": {"locale": "", "title": "{{ payload.text }}"},
    "Campaign": {"campaign_id": FRESH},
    "GenerateDailyRequest": {"shard": 0},
    "Slot": {"slot_id": FRESH, "scores": [0.5]},
    "DeliveryAck": {"delivery_id": DELIVERY, "end": deliveries_pb2.DELIVERY_END_RETRY},
    "DeliveryKey": {"delivery_id": f"20260105.{FRESH}"},
    "Variant": {"variant_id": f"v.{FRESH}", "reward": 0.0},
    "RankUser": {"hour_profile": [1 / 168] * 168},
    "RankRequest": {"user_row": [0]},
    "ExportTrainingDataRequest": {"start_time": NOON - timedelta(days=1), "end_time": NOON},
    "Relation": {"target_id": "team", "strength": 0.5, "removed": False},
    "StopSwitch": {"all": None, "campaign_id": FRESH},
    "Experiment": {"name": "fuzz", "share": 0.01},
    "Preferences": {"muted_channels": {"CHANNEL_EMAIL": True}},
    "ExperimentGroup": {"overrides": {"cap_per_day": "3"}},
    "ReadFeedRequest": {"limit": 50},
}
BY_REQUEST: dict[str, dict[str, Any]] = {
    "PutEventTypeRequest": {"event_type.name": FRESH},
    "ListUserEventsRequest": {"event_id": "hello"},
    "DeleteScenarioRequest": {"request_id": "gone", "name": "gone"},  # was deleted, by `prepare`
    "CancelEventsRequest": {"item_ids": [FRESH], "campaign_ids": [FRESH]},
}


class Seeds:
    """Valid requests about one user, whose ids are `known`."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known

    def request(self, kind: Descriptor) -> Message:
        message = message_factory.GetMessageClass(kind)()
        self.fill(message)
        for path, value in BY_REQUEST.get(kind.name, {}).items():
            *parents, name = path.split(".")
            parent: Any = message
            for step in parents:
                parent = getattr(parent, step)
            self._put(parent, parent.DESCRIPTOR.fields_by_name[name], value)
        return message

    def fill(self, message: Message) -> None:
        """Give every field a plausible value; of a oneof, the first that has one."""
        known = BY_MESSAGE.get(message.DESCRIPTOR.name, {})
        for field in message.DESCRIPTOR.fields:
            if field.containing_oneof and message.WhichOneof(field.containing_oneof.name):
                continue
            value = known[field.name] if field.name in known else self._plain(field)
            if value is not None:
                self._put(message, field, value)

    def _put(self, message: Any, field: FieldDescriptor, value: Any) -> None:
        if is_map(field):
            for key, one in value.items():
                if isinstance(one, Message):
                    getattr(message, field.name)[key].CopyFrom(one)
                else:
                    getattr(message, field.name)[key] = one
        elif field.is_repeated:
            message.ClearField(field.name)
            getattr(message, field.name).extend(value)
        elif isinstance(value, datetime):
            getattr(message, field.name).FromDatetime(value)
        elif isinstance(value, timedelta):
            getattr(message, field.name).FromTimedelta(value)
        elif isinstance(value, Message):
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)

    def _plain(self, field: FieldDescriptor) -> Any:
        if is_map(field):
            key, value = field.message_type.fields
            return {"text" if key.type == key.TYPE_STRING else 1: self._single(value)}
        return [self._single(field)] if field.is_repeated else self._single(field)

    def _single(self, field: FieldDescriptor) -> Any:
        name = field.name.removesuffix("s") if field.is_repeated else field.name
        for table in (self._known, BY_NAME):
            if name in table and _fits(field, table[name]):
                return table[name]
        if field.message_type is None:
            return _plain_scalar(field)
        match field.message_type.full_name:
            case "google.protobuf.Timestamp":
                return NOON
            case "google.protobuf.Duration":
                return timedelta(minutes=2)
        message = message_factory.GetMessageClass(field.message_type)()
        self.fill(message)
        return message


def _fits(field: FieldDescriptor, value: Any) -> bool:
    kinds = {field.CPPTYPE_STRING: str, field.CPPTYPE_BOOL: bool, field.CPPTYPE_MESSAGE: datetime}
    return isinstance(value, kinds.get(field.cpp_type, int))


def _plain_scalar(field: FieldDescriptor) -> Any:
    if field.type == field.TYPE_ENUM:
        return sorted(field.enum_type.values_by_number)[1]
    plain: dict[int, Any] = {
        field.CPPTYPE_STRING: b"bytes" if field.type == field.TYPE_BYTES else "text",
        field.CPPTYPE_BOOL: False,
        field.CPPTYPE_DOUBLE: 0.5,
        field.CPPTYPE_FLOAT: 0.5,
    }
    return plain.get(field.cpp_type, 1)


@dataclass(frozen=True)
class Known:
    """What the running system has been told: ids by user and field name, and the ids of deliveries
    that wait for a report."""

    ids: dict[str, dict[str, str]]
    deliveries: list[str]


async def prepare(system: RunningSystem, users: Sequence[str]) -> Known:
    """Users, items and types; to each user an event sent; deliveries that wait for a report."""
    policy = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
    candidate = candidate_pb2_grpc.CandidateServiceStub(system.channel("candidate"))
    await _stock(candidate, users)
    recipients = [_recipient(user) for user in users]
    stored = await policy.UpsertRecipients(
        iter([recipients_pb2.UpsertRecipientsRequest(recipients=recipients)])
    )
    assert stored.accepted_count == len(users)
    pacer = pacer_pb2_grpc.PacerServiceStub(system.channel("pacer"))
    sent = await pacer.ProcessUsers(pacer_pb2.ProcessUsersRequest(), timeout=60)
    assert sent.delivery_count >= len(users), sent
    copygen = copygen_pb2_grpc.CopygenServiceStub(system.channel("copygen"))
    words = copygen_pb2.Variant(variant_id="words", event_type=TYPE, channel=PUSH, title="Words")
    await copygen.PutVariant(copygen_pb2.PutVariantRequest(request_id="words", variant=words))
    rank_id = await _rank(ranker_pb2_grpc.RankerServiceStub(system.channel("ranker")), users)
    sends = await _sends(policy)
    item = recommending_pb2.RecommendUsersToItemRequest(item_id=ITEM)
    recommended = (await candidate.RecommendUsersToItem(item)).recommendation_id
    shared = {"rank_id": rank_id, "recommendation_id": recommended}
    ids = {user: sends[user] | shared | {"user_id": user} for user in users}
    return Known(ids, await _waiting_deliveries(policy, users[-1]))


async def _stock(
    candidate: candidate_pb2_grpc.CandidateServiceAsyncStub, users: Sequence[str]
) -> None:
    for kind in (_type(TYPE), _type(CRITICAL, critical=True)):
        await candidate.PutEventType(catalogue_pb2.PutEventTypeRequest(event_type=kind))
    await candidate.UpsertUsers(
        iter([catalogue_pb2.UpsertUsersRequest(users=[event_pb2.User(user_id=u) for u in users])])
    )
    items = [event_pb2.Item(item_id=f"film-{n}", title=f"Film {n}") for n in range(3)]
    await candidate.UpsertItems(iter([catalogue_pb2.UpsertItemsRequest(items=items)]))
    interactions = [
        event_pb2.Interaction(user_id=user, item_id=f"film-{n % 3}", interact_time=_stamp(NOON))
        for n, user in enumerate(users)
    ]
    await candidate.RecordInteractions(
        iter([catalogue_pb2.RecordInteractionsRequest(interactions=interactions)])
    )
    campaign = campaigns_pb2.Campaign(campaign_id="spring", item_id=ITEM, event_type=TYPE)
    await candidate.LaunchCampaign(
        campaigns_pb2.LaunchCampaignRequest(request_id="spring", campaign=campaign)
    )
    gone = scenarios_pb2.Scenario(
        name="gone", direction=scenarios_pb2.SCENARIO_DIRECTION_USERS_TO_ITEM
    )
    await candidate.PutScenario(scenarios_pb2.PutScenarioRequest(request_id="gone", scenario=gone))
    await candidate.DeleteScenario(
        scenarios_pb2.DeleteScenarioRequest(request_id="gone", name="gone")
    )
    events = [_event(user, "hello", CRITICAL) for user in users]
    await candidate.PublishEvents(publishing_pb2.PublishEventsRequest(events=events))


async def _sends(policy: policy_pb2_grpc.PolicyServiceAsyncStub) -> dict[str, dict[str, str]]:
    """A decision and a delivery of each user."""
    feed = await policy.ReadFeed(feed_pb2.ReadFeedRequest(limit=10_000))
    return {
        entry.user_id: {
            "decision_id": entry.send.decision_id,
            "delivery_id": entry.send.delivery_id,
        }
        for entry in feed.entries
        if entry.HasField("send")
    }


async def _rank(ranker: ranker_pb2_grpc.RankerServiceAsyncStub, users: Sequence[str]) -> str:
    ranked = await ranker.Rank(
        ranker_pb2.RankRequest(
            users=[ranker_pb2.RankUser(user_id=user) for user in users],
            events=[ranker_pb2.RankEvent(event_id="hello", event_type=TYPE) for _ in users],
            user_row=range(len(users)),
        )
    )
    return ranked.rank_id


async def _waiting_deliveries(
    policy: policy_pb2_grpc.PolicyServiceAsyncStub, user: str
) -> list[str]:
    slots = [
        decide_pb2.Slot(
            user_id=user,
            slot_id=f"event:report-{n}",
            slot_time=_stamp(NOON),
            events=[_event(user, f"report-{n}", CRITICAL)],
        )
        for n in range(400)
    ]
    kinds = [_type(CRITICAL, critical=True)]
    await policy.Decide(decide_pb2.DecideRequest(slots=slots, event_types=kinds), timeout=60)
    asked = deliveries_pb2.LeaseDeliveriesRequest(owner="fuzz", limit=5000)
    asked.lease_duration.FromTimedelta(timedelta(minutes=10))
    leased = await policy.LeaseDeliveries(asked)
    assert len(leased.deliveries) == len(slots)
    return [delivery.delivery_id for delivery in leased.deliveries]


def _type(name: str, *, critical: bool = False) -> event_pb2.EventType:
    template = event_pb2.Template(channel=PUSH, title="{{ payload.text }}", body="{{ item.title }}")
    route = event_pb2.ROUTE_IMMEDIATE if critical else event_pb2.ROUTE_RANKED
    return event_pb2.EventType(
        name=name, route=route, channels=[PUSH], critical=critical, templates=[template]
    )


def _event(user: str, event_id: str, kind: str) -> event_pb2.Event:
    return event_pb2.Event(
        user_id=user,
        event_id=event_id,
        event_type=kind,
        payload={"text": event_id},
        item_ids=[ITEM],
    )


def _recipient(user: str) -> recipients_pb2.Recipient:
    endpoint = recipients_pb2.Endpoint(channel=PUSH, address="token")
    return recipients_pb2.Recipient(user_id=user, opt_ins=[PUSH], endpoints=[endpoint])


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
