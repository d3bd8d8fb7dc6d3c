"""The other services as the pacer sees them over gRPC: small books, exact contracts.

Each request is checked against the protos' limits, as the real services do. Failures can be
scripted: before the work is done, or after it, as when an answer is lost.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.message import Message
from heliograph.candidate.v1alpha1 import (
    candidate_pb2_grpc,
    catalogue_pb2,
    pool_pb2,
    publishing_pb2,
)
from heliograph.copygen.v1alpha1 import copygen_pb2, copygen_pb2_grpc
from heliograph.policy.v1alpha1 import decide_pb2, deliveries_pb2, policy_pb2_grpc, recipients_pb2
from heliograph.ranker.v1alpha1 import ranker_pb2, ranker_pb2_grpc
from heliograph.type.v1alpha1 import event_pb2, notification_pb2, status_pb2

from services.runtime.clock import TIME_METADATA_KEY, parse_time
from services.runtime.errors import STATUS_DETAILS_KEY, ResourceExhausted, rich_status
from services.runtime.validation import violations

HEADS = [notification_pb2.HEAD_PUSH_OPEN, notification_pb2.HEAD_EMAIL_CLICK]
MOST_BYTES = 8 * 2**20
SLOT_HOURS = (9, 13, 19)
Key = tuple[str, str]


@dataclass
class ReadyState:
    """A ready event in its queue."""

    event: event_pb2.Event
    due: datetime
    end: int = 0
    decision_id: str = ""


@dataclass
class DeliveryState:
    """A delivery in the outbox."""

    delivery: deliveries_pb2.Delivery
    due: datetime
    end: deliveries_pb2.DeliveryAck | None = None
    acks: list[deliveries_pb2.DeliveryAck] = field(default_factory=list)


class Peers:
    """The books of candidate, ranker, policy and copygen."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: defaultdict[str, list[Any]] = defaultdict(list)
        self.refuse: dict[str, grpc.StatusCode] = {}
        """Methods that fail before doing anything."""
        self.lose_answer: Counter[str] = Counter()
        """How many answers of a method are lost after the work was done."""
        self.hang = ""
        """A method whose next call does its work and is then never answered."""
        self.hung = asyncio.Event()
        self.poison: set[str] = set()
        """Events that make Rank and Decide refuse the whole call."""
        self.unscored: set[str] = set()
        self.rejected: set[str] = set()
        """Events that PickVariants and Decide reject by themselves."""
        self.withdrawn: set[str] = set()
        """Events that CheckEvents names."""
        self.deferred: dict[str, datetime] = {}
        self.on_read_pool: Any = None
        self.types: dict[str, event_pb2.EventType] = {}
        self.pool: dict[Key, event_pb2.Event] = {}
        self.ends: dict[Key, pool_pb2.Settlement] = {}
        self.arrivals: list[str] = []
        self.ready: dict[Key, ReadyState] = {}
        self.recipients: set[str] = set()
        self.decisions: dict[Key, decide_pb2.Decision] = {}
        self.deliveries: dict[str, DeliveryState] = {}
        self.erased: defaultdict[str, set[str]] = defaultdict(set)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])

    async def start(self) -> None:
        candidate_pb2_grpc.add_CandidateServiceServicer_to_server(Candidate(self), self._server)
        ranker_pb2_grpc.add_RankerServiceServicer_to_server(Ranker(self), self._server)
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(Policy(self), self._server)
        copygen_pb2_grpc.add_CopygenServiceServicer_to_server(Copygen(self), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    def put_type(
        self, name: str, route: event_pb2.Route.ValueType = event_pb2.ROUTE_RANKED
    ) -> None:
        channels = [
            notification_pb2.CHANNEL_PUSH,
            notification_pb2.CHANNEL_EMAIL,
            notification_pb2.CHANNEL_IN_APP,
        ]
        self.types[name] = event_pb2.EventType(name=name, route=route, channels=channels)

    def publish(self, user: str, event_id: str, *, score: float = 0.9, **fields: Any) -> None:
        """Put a ranked event into the pool."""
        event = event_pb2.Event(
            user_id=user, event_id=event_id, event_type="movie.new", source_score=score, **fields
        )
        self.put_type("movie.new")
        self.pool[user, event_id] = event
        self.arrivals.append(user)
        self.recipients.add(user)

    def publish_ready(self, user: str, event_id: str, now: datetime) -> None:
        """Put an immediate event into the ready queue."""
        self.put_type("alert", event_pb2.ROUTE_IMMEDIATE)
        event = event_pb2.Event(user_id=user, event_id=event_id, event_type="alert")
        event.create_time.FromDatetime(now)
        self.ready[user, event_id] = ReadyState(event, now)
        self.recipients.add(user)

    def open_events(self, user: str) -> list[event_pb2.Event]:
        return [e for (owner, _), e in self.pool.items() if owner == user]

    async def gate(self, method: str, request: Message, context: Any) -> datetime:
        """What every call passes first; the time it brought."""
        self.requests[method].append(request)
        if wrong := violations(request):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(wrong[0]))
        if method in self.refuse:
            await context.abort(self.refuse[method], "scripted")
        metadata = dict(context.invocation_metadata() or ())
        given = metadata.get(TIME_METADATA_KEY)
        return parse_time(str(given)) if given else datetime.now(UTC)

    async def answered(self, method: str, context: Any) -> None:
        """What a call that changed something passes last."""
        if method == self.hang:
            self.hang = ""
            self.hung.set()
            await asyncio.Event().wait()
        if self.lose_answer[method]:
            self.lose_answer[method] -= 1
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the answer was lost")

    async def check_poison(self, events: Any, context: Any) -> None:
        if self.poison & {event.event_id for event in events}:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "poison")


def slot_times(now: datetime) -> list[datetime]:
    """The next three slots after `now`."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    hours = (midnight + timedelta(days=d, hours=h) for d in range(2) for h in SLOT_HOURS)
    return [time for time in hours if time > now][:3]


class Candidate(candidate_pb2_grpc.CandidateServiceServicer):
    def __init__(self, books: Peers) -> None:
        self.books = books

    async def GetEventType(self, request: Any, context: Any) -> Any:
        await self.books.gate("GetEventType", request, context)
        if request.name not in self.books.types:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown")
        return catalogue_pb2.GetEventTypeResponse(event_type=self.books.types[request.name])

    async def CheckEvents(self, request: Any, context: Any) -> Any:
        await self.books.gate("CheckEvents", request, context)
        gone = [one.key for one in request.events if one.key.event_id in self.books.withdrawn]
        await self.books.answered("CheckEvents", context)
        return publishing_pb2.CheckEventsResponse(withdrawn=gone)

    async def ReadArrivals(self, request: Any, context: Any) -> Any:
        await self.books.gate("ReadArrivals", request, context)
        first = int(request.cursor or 0)
        if first > len(self.books.arrivals):
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "the cursor lies in the future")
        some = self.books.arrivals[first : first + request.limit]
        after = first + len(some)
        return pool_pb2.ReadArrivalsResponse(
            user_ids=list(dict.fromkeys(some)),
            cursor=str(after) if after else "",
            more=after < len(self.books.arrivals),
        )

    async def ReadPool(self, request: Any, context: Any) -> Any:
        await self.books.gate("ReadPool", request, context)
        response = pool_pb2.ReadPoolResponse(event_types=self.books.types.values())
        for user in request.user_ids:
            if events := self.books.open_events(user):
                response.pools.add(user_id=user, events=events[: request.limit_per_user])
        if response.ByteSize() > MOST_BYTES:
            refusal = ResourceExhausted("too much", reason="RESPONSE_TOO_LARGE")
            details = rich_status(refusal).SerializeToString()
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too much", ((STATUS_DETAILS_KEY, details),)
            )
        if self.books.on_read_pool is not None:
            await self.books.on_read_pool()
        return response

    async def SettlePool(self, request: Any, context: Any) -> Any:
        await self.books.gate("SettlePool", request, context)
        ended = 0
        for settlement in request.settlements:
            key = settlement.user_id, settlement.event_id
            if settlement.end and key in self.books.pool:
                del self.books.pool[key]
                self.books.ends[key] = settlement
                ended += 1
        await self.books.answered("SettlePool", context)
        return pool_pb2.SettlePoolResponse(ended_count=ended)

    async def LeaseReady(self, request: Any, context: Any) -> Any:
        now = await self.books.gate("LeaseReady", request, context)
        due = [s for s in self.books.ready.values() if not s.end and s.due <= now]
        for state in due[: request.limit]:
            state.due = now + request.lease_duration.ToTimedelta()
        events = [state.event for state in due[: request.limit]]
        return pool_pb2.LeaseReadyResponse(events=events, event_types=self.books.types.values())

    async def SettleReady(self, request: Any, context: Any) -> Any:
        now = await self.books.gate("SettleReady", request, context)
        for settlement in request.settlements:
            state = self.books.ready[settlement.user_id, settlement.event_id]
            if state.end:
                continue
            state.end, state.decision_id = settlement.end, settlement.decision_id
            later = settlement.HasField("retry_time")
            state.due = settlement.retry_time.ToDatetime(tzinfo=UTC) if later else now
        await self.books.answered("SettleReady", context)
        return pool_pb2.SettleReadyResponse()

    async def EraseUser(self, request: Any, context: Any) -> Any:
        await self.books.gate("EraseUser.candidate", request, context)
        self.books.erased["candidate"].add(request.user_id)
        return catalogue_pb2.EraseUserResponse()


class Ranker(ranker_pb2_grpc.RankerServiceServicer):
    def __init__(self, books: Peers) -> None:
        self.books = books

    async def Rank(self, request: Any, context: Any) -> Any:
        """Every head answers the source's own score."""
        await self.books.gate("Rank", request, context)
        await self.books.check_poison(request.events, context)
        return ranker_pb2.RankResponse(
            rank_id=f"rank-{len(self.books.requests['Rank'])}",
            heads=HEADS,
            trained_heads=HEADS[:1],
            scores=[event.source_score for event in request.events for _ in HEADS],
            model_versions=["m1" for _ in request.users],
            rejections=[
                status_pb2.Rejection(index=index, reason="INVALID_FIELD")
                for index, event in enumerate(request.events)
                if event.event_id in self.books.unscored
            ],
        )

    async def EraseUser(self, request: Any, context: Any) -> Any:
        await self.books.gate("EraseUser.ranker", request, context)
        self.books.erased["ranker"].add(request.user_id)
        return ranker_pb2.EraseUserResponse()


class Policy(policy_pb2_grpc.PolicyServiceServicer):
    """Sends the event of the highest score, if that is above one half."""

    def __init__(self, books: Peers) -> None:
        self.books = books

    async def GetUserContexts(self, request: Any, context: Any) -> Any:
        now = await self.books.gate("GetUserContexts", request, context)
        response = recipients_pb2.GetUserContextsResponse()
        for user in request.user_ids:
            if user in self.books.recipients:
                known = response.contexts.add(user_id=user, segment="core", locale="en")
                for time in slot_times(now):
                    known.next_slot_times.add().FromDatetime(time)
        return response

    async def Decide(self, request: Any, context: Any) -> Any:
        now = await self.books.gate("Decide", request, context)
        await self.books.check_poison((e for s in request.slots for e in s.events), context)
        response = decide_pb2.DecideResponse()
        for index, slot in enumerate(request.slots):
            assert not violations(slot), violations(slot)
            if slot.user_id not in self.books.recipients:
                response.rejections.add(index=index, reason="UNKNOWN_USER")
            elif self.books.rejected & {event.event_id for event in slot.events}:
                response.rejections.add(index=index, reason="NON_FINITE_SCORE")
            else:
                response.decisions.append(self._decision(slot, len(request.heads), now))
        await self.books.answered("Decide", context)
        return response

    def _decision(self, slot: Any, heads: int, now: datetime) -> Any:
        key = slot.user_id, slot.slot_id
        if key in self.books.decisions:
            return self.books.decisions[key]
        decision = decide_pb2.Decision(user_id=slot.user_id, slot_id=slot.slot_id)
        if (until := self.books.deferred.get(slot.events[0].event_id, now)) > now:
            decision.reason = "DEFERRED"
            decision.outcomes.add(event_id=slot.events[0].event_id, reason="QUIET_HOURS")
            decision.next_slot_times.add().FromDatetime(until)
            return decision
        decision.decision_id = f"{now:%Y%m%d}.{slot.user_id}.{slot.slot_id}"
        for time in slot_times(now):
            decision.next_slot_times.add().FromDatetime(time)
        scores = slot.scores[::heads] if heads else [1.0]
        assert len(scores) == len(slot.events)
        best = max(range(len(scores)), key=lambda row: scores[row])
        if scores[best] > 0.5:
            self._send(decision, slot.events[best], now)
        self.books.decisions[key] = decision
        return decision

    def _send(self, decision: Any, event: Any, now: datetime) -> None:
        decision.send, decision.event_id = True, event.event_id
        decision.delivery_id = f"{decision.decision_id}-push"
        decision.outcomes.add(
            event_id=event.event_id, end=notification_pb2.EVENT_END_SENT, reason="SENT"
        )
        delivery = deliveries_pb2.Delivery(
            delivery_id=decision.delivery_id,
            decision_id=decision.decision_id,
            user_id=event.user_id,
            event=event,
            channel=notification_pb2.CHANNEL_PUSH,
            address="token",
            locale="en",
        )
        delivery.decide_time.FromDatetime(now)
        self.books.deliveries[delivery.delivery_id] = DeliveryState(delivery, now)

    async def LeaseDeliveries(self, request: Any, context: Any) -> Any:
        now = await self.books.gate("LeaseDeliveries", request, context)
        due = [s for s in self.books.deliveries.values() if s.end is None and s.due <= now]
        for state in due[: request.limit]:
            state.due = now + request.lease_duration.ToTimedelta()
            state.delivery.attempt += 1
        return deliveries_pb2.LeaseDeliveriesResponse(
            deliveries=[state.delivery for state in due[: request.limit]]
        )

    async def AckDeliveries(self, request: Any, context: Any) -> Any:
        await self.books.gate("AckDeliveries", request, context)
        for ack in request.acks:
            assert not violations(ack), violations(ack)
            state = self.books.deliveries[ack.delivery_id]
            state.acks.append(ack)
            if ack.end == deliveries_pb2.DELIVERY_END_RETRY:
                state.due = ack.retry_time.ToDatetime(tzinfo=UTC)
            elif state.end is None:
                state.end = ack
        await self.books.answered("AckDeliveries", context)
        return deliveries_pb2.AckDeliveriesResponse(accepted_count=len(request.acks))

    async def EraseUser(self, request: Any, context: Any) -> Any:
        await self.books.gate("EraseUser.policy", request, context)
        self.books.erased["policy"].add(request.user_id)
        self.books.recipients.discard(request.user_id)
        return recipients_pb2.EraseUserResponse()


class Copygen(copygen_pb2_grpc.CopygenServiceServicer):
    def __init__(self, books: Peers) -> None:
        self.books = books

    async def PickVariants(self, request: Any, context: Any) -> Any:
        await self.books.gate("PickVariants", request, context)
        response = copygen_pb2.PickVariantsResponse()
        for index, key in enumerate(request.deliveries):
            assert not violations(key), violations(key)
            if key.event.event_id in self.books.rejected:
                response.rejections.add(index=index, reason="TEMPLATE_FAILED", message="no title")
            else:
                title = f"{key.event.event_type} {key.event.event_id}"
                response.copies.add(
                    delivery_id=key.delivery_id, variant_id="template", title=title, propensity=1
                )
        return response

    async def EraseUser(self, request: Any, context: Any) -> Any:
        await self.books.gate("EraseUser.copygen", request, context)
        self.books.erased["copygen"].add(request.user_id)
        return copygen_pb2.EraseUserResponse()
