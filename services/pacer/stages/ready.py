"""Immediate and due scheduled events: leased, decided one by one, settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

import grpc
from heliograph.candidate.v1alpha1 import pool_pb2
from heliograph.policy.v1alpha1 import decide_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.pacer.batches import BatchSize, cut
from services.pacer.clients import Clients
from services.pacer.convert import to_time, to_timestamp
from services.pacer.leases import Leases, Owner, is_too_large
from services.pacer.report import READY, Report
from services.pacer.settings import PacerSettings
from services.pacer.stages.division import divided
from services.runtime.clock import Clock
from services.runtime.errors import Unavailable
from services.runtime.logs import Logger

DEFERRED = "DEFERRED"
SHORTEST_DEFERRAL = timedelta(seconds=1)

Event = event_pb2.Event
EventTypes = dict[str, event_pb2.EventType]
Keys = set[tuple[str, str]]
"""Events by user and id."""


class Ready:
    """One batch: LeaseReady → Decide → SettleReady."""

    def __init__(
        self,
        settings: PacerSettings,
        clock: Clock,
        clients: Clients,
        owner: Owner,
        leases: Leases,
        log: Logger,
        on_send: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._clients = clients
        self._owner = owner
        self._leases = leases
        self._log = log
        self._on_send = on_send
        self._size = BatchSize(settings.batch_ready)

    async def step(self, report: Report) -> bool:
        """Take one batch; whether there was any. Raises Held."""
        async with self._leases.hold_rule():
            answer = await self._lease(report)
            if answer is None:
                return True
            events = list(answer.events)
            if not events:
                return False
            types = {known.name: known for known in answer.event_types}
            unsettled = {(event.user_id, event.event_id) for event in events}
            decide = partial(self._decide, types, unsettled, report)
            give_back = partial(self._give_back, unsettled)
            oldest = min(slot_time(event, types) for event in events)
            async with self._leases.holding(len(events), give_back, oldest):
                sizes = ((event.ByteSize(),) for event in events)
                limit = [self._settings.bytes_per_call]
                for part in cut(events, sizes, limit, self._settings.batch_ready):
                    await divided(part, decide, self._spoiled)
            return True

    async def _lease(self, report: Report) -> pool_pb2.LeaseReadyResponse | None:
        """None when the answer was too large, and fewer are to be asked for."""
        request = pool_pb2.LeaseReadyRequest(owner=self._owner.name, limit=self._size.now)
        request.lease_duration.FromTimedelta(self._settings.lease)
        try:
            with report.timed("ready") as total:
                answer = await self._clients.candidate.LeaseReady(request)
                total.count += len(answer.events)
        except grpc.aio.AioRpcError as error:
            if is_too_large(error) and self._size.shrink():
                return None
            raise
        self._size.grow()
        return answer

    async def _decide(
        self, types: EventTypes, unsettled: Keys, report: Report, events: Sequence[Event]
    ) -> None:
        used = {event.event_type for event in events}
        request = decide_pb2.DecideRequest(
            slots=[as_slot(event, types) for event in events],
            event_types=[types[name] for name in sorted(used) if name in types],
        )
        with report.timed("decide", len(events)):
            answer = await self._clients.policy.Decide(request)
        decisions = {(made.user_id, made.slot_id): made for made in answer.decisions}
        rejected = {rejection.index: rejection for rejection in answer.rejections}
        settlements = []
        for index, event in enumerate(events):
            decision = decisions.get((event.user_id, _slot_id(event)))
            if decision is not None:
                settlements.append(self._settlement(event, decision, report))
            elif index in rejected:
                settlements.append(self._later(event, rejected[index].reason))
            else:
                raise Unavailable("policy left out a slot", reason="BAD_ANSWER")
        if answer.rejections:
            self._log.warning(
                "ready events could not be judged; they are offered again later",
                count=len(answer.rejections),
                first=answer.rejections[0].reason,
            )
        with report.timed("settle", len(settlements)):
            await self._clients.candidate.SettleReady(
                pool_pb2.SettleReadyRequest(settlements=settlements)
            )
        unsettled.difference_update((event.user_id, event.event_id) for event in events)
        if any(decision.send for decision in answer.decisions):
            self._on_send()

    def _settlement(
        self, event: Event, decision: decide_pb2.Decision, report: Report
    ) -> pool_pb2.Settlement:
        outcome = decision.outcomes[0] if decision.outcomes else decide_pb2.EventOutcome()
        if decision.reason == DEFERRED or not outcome.end:
            READY.labels("deferred").inc()
            times = [to_time(time) for time in decision.next_slot_times[:1]]
            return self._back(event, outcome.reason or decision.reason, *times)
        report.ready_count += 1
        report.send_count += decision.send
        READY.labels("sent" if decision.send else "suppressed").inc()
        return pool_pb2.Settlement(
            user_id=event.user_id,
            event_id=event.event_id,
            end=outcome.end,
            reason=outcome.reason or decision.reason,
            decision_id=decision.decision_id,
        )

    def _later(self, event: Event, reason: str) -> pool_pb2.Settlement:
        READY.labels("rejected").inc()
        return self._back(event, reason, self._clock.now() + self._settings.rejected_delay)

    def _back(
        self, event: Event, reason: str, retry: datetime | None = None
    ) -> pool_pb2.Settlement:
        """Back into the queue; never at once, or a pass would not end."""
        now = self._clock.now()
        retry = now + self._settings.rejected_delay if retry is None else retry
        return pool_pb2.Settlement(
            user_id=event.user_id,
            event_id=event.event_id,
            reason=reason[:64],
            retry_time=to_timestamp(max(retry, now + SHORTEST_DEFERRAL)),
        )

    async def _spoiled(self, event: Event, error: grpc.aio.AioRpcError) -> None:
        self._log.error(
            "policy refuses an event", event_id=event.event_id, error=error.details() or ""
        )
        request = pool_pb2.SettleReadyRequest(settlements=[self._later(event, "REFUSED")])
        await self._clients.candidate.SettleReady(request)

    async def _give_back(self, unsettled: Keys) -> None:
        """At once: nothing was decided, or the decision is stored and comes back the same."""
        settlements = [
            pool_pb2.Settlement(user_id=user_id, event_id=event_id)
            for user_id, event_id in sorted(unsettled)
        ]
        await self._clients.candidate.SettleReady(
            pool_pb2.SettleReadyRequest(settlements=settlements)
        )


def slot_time(event: Event, types: EventTypes) -> datetime:
    """When a ready event was due: the same at every retry."""
    kind = types.get(event.event_type)
    scheduled = kind is not None and kind.route == event_pb2.ROUTE_SCHEDULED
    if scheduled and event.HasField("deliver_time"):
        return to_time(event.deliver_time)
    return to_time(event.create_time)


def as_slot(event: Event, types: EventTypes) -> decide_pb2.Slot:
    """The slot of a ready event, which it has for itself."""
    return decide_pb2.Slot(
        user_id=event.user_id,
        slot_id=_slot_id(event),
        slot_time=to_timestamp(slot_time(event, types)),
        events=[event],
    )


def _slot_id(event: Event) -> str:
    return f"event:{event.event_id}"
