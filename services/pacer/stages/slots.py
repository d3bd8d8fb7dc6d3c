"""Due slots: leased, pools read, ranked, decided, settled, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import grpc
from heliograph.candidate.v1alpha1 import pool_pb2
from heliograph.policy.v1alpha1 import decide_pb2, recipients_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.pacer.batches import cut
from services.pacer.clients import Clients
from services.pacer.convert import to_time
from services.pacer.leases import Leases, Owner, is_too_large
from services.pacer.report import LOST_LEASES, SLOT_LAG, SLOTS, Report
from services.pacer.settings import PacerSettings
from services.pacer.slot_times import SlotKey, offers
from services.pacer.stages.contexts import Contexts, user_contexts
from services.pacer.stages.division import divided
from services.pacer.stages.scoring import Work, decide_request, rank_request
from services.pacer.store.slots import ClosedSlot, SlotStore
from services.runtime.clock import Clock
from services.runtime.errors import Unavailable
from services.runtime.logs import Logger

MOST_USERS = 1000
MOST_SETTLEMENTS = 50_000


@dataclass(slots=True)
class Pools:
    """Users' waiting events, and the types they refer to."""

    events: dict[str, Sequence[event_pb2.Event]]
    types: dict[str, event_pb2.EventType]


@dataclass(frozen=True, slots=True)
class Batch:
    """Slots held under one lease."""

    owner: str
    slots: Sequence[SlotKey]
    report: Report


class Slots:
    """One batch: lease → ReadPool → GetUserContexts → Rank → Decide → SettlePool → close."""

    def __init__(
        self,
        settings: PacerSettings,
        clock: Clock,
        clients: Clients,
        store: SlotStore,
        owner: Owner,
        leases: Leases,
        log: Logger,
        on_send: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._clients = clients
        self._store = store
        self._owner = owner
        self._leases = leases
        self._log = log
        self._on_send = on_send
        self._at_once = asyncio.Semaphore(settings.calls_at_once)

    async def step(self, report: Report, limit: int | None = None) -> int:
        """Take one batch of due slots, at most `limit`; how many there were. Raises Held."""
        most = self._settings.batch_slots if limit is None else limit
        async with self._leases.hold_rule():
            owner, now = self._owner.batch(), self._clock.now()
            slots = await self._store.lease_due(
                owner, now, self._settings.lease, min(most, self._settings.batch_slots)
            )
            SLOT_LAG.set((now - slots[0].time).total_seconds() if slots else 0.0)
            return await self._hold(Batch(owner, slots, report))

    async def step_users(self, report: Report, user_ids: Sequence[str]) -> int:
        """Take the waiting slots of these users (at most 1,000), due or not. Raises Held."""
        async with self._leases.hold_rule():
            owner, now = self._owner.batch(), self._clock.now()
            slots = await self._store.lease_users(owner, now, self._settings.lease, user_ids)
            return await self._hold(Batch(owner, slots, report))

    async def _hold(self, batch: Batch) -> int:
        slots = batch.slots
        if slots:
            users = [slot.user_id for slot in slots]
            give_back = partial(self._store.release, batch.owner, users)
            async with self._leases.holding(len(slots), give_back, slots[0].time):
                await self._process(batch, users)
        return len(slots)

    async def _process(self, batch: Batch, users: Sequence[str]) -> None:
        pools, contexts = await asyncio.gather(
            self._read_pools(users, batch.report),
            user_contexts(self._clients, users, batch.report),
        )
        await self._close_idle(batch, pools, contexts)
        works = [
            Work(slot, pools.events[slot.user_id], contexts[slot.user_id])
            for slot in batch.slots
            if slot.user_id in contexts and pools.events.get(slot.user_id)
        ]
        limits = [self._settings.events_per_call, self._settings.bytes_per_call]
        parts = cut(works, (work.size for work in works), limits, MOST_USERS)
        done = await asyncio.gather(
            *(self._part(batch, pools, part) for part in parts), return_exceptions=True
        )
        for failure in done:
            if failure is not None:
                raise failure

    async def _part(self, batch: Batch, pools: Pools, works: Sequence[Work]) -> None:
        async with self._at_once:
            await divided(
                works, partial(self._decide, batch, pools), partial(self._close_refused, batch)
            )

    async def _read_pools(self, users: Sequence[str], report: Report) -> Pools:
        """In halves when the answer is too large."""
        request = pool_pb2.ReadPoolRequest(
            user_ids=users, limit_per_user=self._settings.events_per_user
        )
        try:
            with report.timed("read_pool", len(users)):
                answer = await self._clients.candidate.ReadPool(request)
        except grpc.aio.AioRpcError as error:
            if len(users) == 1 or not is_too_large(error):
                raise
            middle = len(users) // 2
            first = await self._read_pools(users[:middle], report)
            second = await self._read_pools(users[middle:], report)
            return Pools(first.events | second.events, first.types | second.types)
        return Pools(
            {pool.user_id: pool.events for pool in answer.pools},
            {known.name: known for known in answer.event_types},
        )

    async def _close_idle(self, batch: Batch, pools: Pools, contexts: Contexts) -> None:
        """Close the slots of empty pools, and of users that policy doesn't know."""
        closed, unknown = [], []
        for slot in batch.slots:
            context = contexts.get(slot.user_id)
            if context is None:
                unknown.append(slot.user_id)
                closed.append(ClosedSlot(slot, "", keep=False, next_offers=()))
            elif not pools.events.get(slot.user_id):
                SLOTS.labels("empty").inc()
                closed.append(self._closed(slot, context, keep=False))
        if unknown:
            SLOTS.labels("unknown_user").inc(len(unknown))
            self._log.warning(
                "slots of users without a recipient closed; their events wait until they expire",
                count=len(unknown),
                first=unknown[0],
            )
        await self._close(batch, closed)

    async def _decide(self, batch: Batch, pools: Pools, works: Sequence[Work]) -> None:
        report = batch.report
        with report.timed("rank", sum(len(work.events) for work in works)):
            ranked = await self._clients.ranker.Rank(rank_request(works))
        request = decide_request(works, ranked, pools.types)
        answer = decide_pb2.DecideResponse()
        if request.slots:
            with report.timed("decide", len(request.slots)):
                answer = await self._clients.policy.Decide(request)
        decisions = {(made.user_id, made.slot_id): made for made in answer.decisions}
        refused = {request.slots[rejection.index].user_id for rejection in answer.rejections}
        refused |= {work.key.user_id for work in works} - {slot.user_id for slot in request.slots}
        closed = []
        for work in works:
            decision = decisions.get((work.key.user_id, work.key.slot_id))
            if decision is not None:
                closed.append(self._decided(work, decision, report))
            elif work.key.user_id in refused:
                SLOTS.labels("rejected").inc()
                closed.append(self._closed(work.key, work.context, keep=True))
            else:
                raise Unavailable("policy left out a slot", reason="BAD_ANSWER")
        if refused:
            reasons = sorted({rejection.reason for rejection in answer.rejections})
            self._log.warning("slots could not be judged", count=len(refused), reasons=reasons)
        await self._settle(answer.decisions, report)
        await self._close(batch, closed)
        if any(decision.send for decision in answer.decisions):
            self._on_send()

    def _decided(self, work: Work, decision: decide_pb2.Decision, report: Report) -> ClosedSlot:
        report.slot_count += 1
        report.send_count += decision.send
        SLOTS.labels("sent" if decision.send else "no_send").inc()
        ended = {outcome.event_id for outcome in decision.outcomes if outcome.end}
        cut_off = len(work.events) == self._settings.events_per_user
        stays = cut_off or any(event.event_id not in ended for event in work.events)
        return self._closed(work.key, work.context, keep=stays, decision=decision)

    def _closed(
        self,
        slot: SlotKey,
        context: recipients_pb2.UserContext,
        *,
        keep: bool,
        decision: decide_pb2.Decision | None = None,
    ) -> ClosedSlot:
        after_decision = [] if decision is None else map(to_time, decision.next_slot_times)
        possible = offers(
            slot.user_id,
            self._clock.now(),
            self._settings.fallback_delay,
            after_decision,
            map(to_time, context.next_slot_times),
        )
        decision_id = "" if decision is None else decision.decision_id
        return ClosedSlot(slot, decision_id, keep, possible)

    async def _settle(self, decisions: Sequence[decide_pb2.Decision], report: Report) -> None:
        """Record ends; an event that stays needs no record."""
        settlements = [
            pool_pb2.Settlement(
                user_id=decision.user_id,
                event_id=outcome.event_id,
                end=outcome.end,
                reason=outcome.reason,
                decision_id=decision.decision_id,
            )
            for decision in decisions
            for outcome in decision.outcomes
            if outcome.end
        ]
        for first in range(0, len(settlements), MOST_SETTLEMENTS):
            some = settlements[first : first + MOST_SETTLEMENTS]
            with report.timed("settle", len(some)):
                answer = await self._clients.candidate.SettlePool(
                    pool_pb2.SettlePoolRequest(settlements=some)
                )
            if answer.rejections:
                self._log.error("settlements rejected", first=answer.rejections[0].message)

    async def _close(self, batch: Batch, closed: Sequence[ClosedSlot]) -> None:
        if closed:
            count = await self._store.close(batch.owner, self._clock.now(), closed)
            LOST_LEASES.inc(len(closed) - count)

    async def _close_refused(self, batch: Batch, work: Work, error: grpc.aio.AioRpcError) -> None:
        """A slot that a service refuses by itself must not be leased for ever: its events stay,
        and the next slot tries again."""
        SLOTS.labels("refused").inc()
        self._log.error(
            "a service refuses a slot", slot_id=work.key.slot_id, error=error.details() or ""
        )
        await self._close(batch, [self._closed(work.key, work.context, keep=True)])
