"""Hands deliveries out by lease and takes the channels' reports on them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from heliograph.type.v1alpha1 import event_pb2

from services.policy import deliveries as rules
from services.policy import feed_entries, feed_store, outbox_store, switch_store
from services.policy.addresses import AddressBook
from services.policy.deliveries import Ack, Delivery, DropReason, End, State, Verdict
from services.policy.feed_entries import Entry, Notification
from services.policy.outbox_store import Due
from services.policy.preferences import QuietHours
from services.policy.stop_switches import StopSwitches
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.database import Database, UnitOfWork
from services.runtime.secrets import DecryptionError


@dataclass(frozen=True, slots=True)
class Leased:
    """A delivery that the caller now holds, and where it goes."""

    delivery: Delivery
    address: str


@dataclass(slots=True)
class Taken:
    """What became of the deliveries that were due."""

    leased: list[Leased] = field(default_factory=list)
    dropped: list[tuple[Delivery, DropReason]] = field(default_factory=list)
    quiet: list[Delivery] = field(default_factory=list)
    """Due again when their users' quiet hours end."""


class Outbox:
    """Leases and reports; in transactions of set-based statements."""

    def __init__(
        self, database: Database, clock: Clock, addresses: AddressBook, quiet_hours: QuietHours
    ) -> None:
        self._database = database
        self._clock = clock
        self._addresses = addresses
        self._quiet_hours = quiet_hours
        self._ended = metrics.counter(
            "policy", "deliveries_ended", "", "Deliveries by how they ended.", ["end"]
        )
        self._undecryptable = metrics.counter(
            "policy", "undecryptable_addresses", "", "Addresses sealed with another key."
        )

    async def lease(
        self, owner: str, limit: int, duration: timedelta
    ) -> tuple[list[Leased], Counter[DropReason]]:
        """Lease up to `limit` deliveries, oldest first; also answers how many were dropped.

        Those that may not go out any more end here: they give their volume back, and their cap
        unless a lease ran out without a report, when the user may have got them. Those that fall
        into their users' quiet hours wait, and others are looked at in their place.
        """
        now = self._clock.now()
        while True:
            taken = await self._take(owner, limit, duration, now)
            if taken.leased or taken.dropped or not taken.quiet:
                break
        for one in taken.leased:
            one.delivery.attempt += 1
        reasons = Counter(reason for _, reason in taken.dropped)
        self._count({f"dropped_{reason.lower()}": count for reason, count in reasons.items()})
        return taken.leased, reasons

    async def report(self, owner: str, acks: Sequence[Ack]) -> list[Verdict]:
        """Take `owner`'s reports, in their order; answers what each meant. The first end stands."""
        now = self._clock.now()
        days = ((rules.day_of(ack.delivery_id), ack.delivery_id) for ack in acks)
        async with self._database.unit_of_work() as work:
            known = await outbox_store.lock(
                work, ((day, delivery_id) for day, delivery_id in days if day is not None)
            )
            verdicts: list[Verdict] = []
            applied: dict[str, Ack] = {}
            for ack in acks:
                delivery = known.get(ack.delivery_id)
                verdict = rules.judge(ack, delivery, owner)
                if verdict is Verdict.APPLY and delivery is not None:
                    rules.apply(ack, delivery, now)
                    applied[ack.delivery_id] = ack
                verdicts.append(verdict)
            await self._store(work, [(known[key], ack) for key, ack in applied.items()], now)
            await work.commit()
        self._count(Counter(ack.end.name.lower() for ack in applied.values()))
        return verdicts

    async def _take(self, owner: str, limit: int, duration: timedelta, now: datetime) -> Taken:
        async with self._database.unit_of_work() as work:
            due = await outbox_store.take_due(work, now, limit)
            if not due:
                return Taken()
            taken = self._judged(due, await switch_store.closed(work), now)
            await self._drop(work, taken.dropped, now)
            await outbox_store.store_states(work, taken.quiet)
            held = [one.delivery for one in taken.leased]
            await outbox_store.lease(work, held, owner, now + duration)
            await work.commit()
        return taken

    def _judged(self, due: Sequence[Due], switches: StopSwitches, now: datetime) -> Taken:
        taken = Taken()
        for one in due:
            delivery, receiver, address = one.delivery, one.receiver, self._address(one)
            reason = rules.late_drop(
                delivery, receiver, switches, now, reachable=address is not None
            )
            if reason is not None or receiver is None or address is None:
                taken.dropped.append((delivery, reason or DropReason.UNREACHABLE))
                continue
            until = rules.quiet_end(delivery, receiver, now, self._quiet_hours)
            if until is None:
                taken.leased.append(Leased(delivery, address))
            elif delivery.expires_by(until):
                taken.dropped.append((delivery, DropReason.QUIET_HOURS))
            else:
                delivery.due_time = until
                taken.quiet.append(delivery)
        return taken

    def _address(self, due: Due) -> str | None:
        """Where it goes; None when the user has no working endpoint, or one of another key."""
        if due.sealed_address is None:
            return None
        delivery = due.delivery
        try:
            return self._addresses.unseal(due.sealed_address, delivery.user_id, delivery.channel)
        except DecryptionError:
            self._undecryptable.inc()
            return None

    async def _drop(
        self,
        work: UnitOfWork,
        dropped: Sequence[tuple[Delivery, DropReason]],
        now: datetime,
    ) -> None:
        sure = [
            delivery
            for delivery, _ in dropped
            if not delivery.unreported and delivery.state is not State.LEASED
        ]
        for delivery, reason in dropped:
            delivery.state = State.DROPPED
            delivery.error = reason
            delivery.end_time = now
        ended = [delivery for delivery, _ in dropped]
        await outbox_store.store_states(work, ended)
        await outbox_store.give_caps_back(work, sure)
        await outbox_store.book_volume(work, ended, now)
        entries = [feed_entries.drop(_notification(delivery, _event(delivery)), now, reason)
                   for delivery, reason in dropped]  # fmt: skip
        await feed_store.append(work, now, entries)

    async def _store(
        self, work: UnitOfWork, applied: Sequence[tuple[Delivery, Ack]], now: datetime
    ) -> None:
        ended = [delivery for delivery, _ in applied if delivery.end_time is not None]
        unreachable = [delivery for delivery, ack in applied if ack.end is End.UNREACHABLE]
        await outbox_store.store_states(work, [delivery for delivery, _ in applied])
        await outbox_store.mark_unreachable(work, unreachable)
        withdrawn = [
            delivery
            for delivery, ack in applied
            if ack.end is End.WITHDRAWN and not delivery.unreported
        ]
        await outbox_store.give_caps_back(work, [*unreachable, *withdrawn])
        await outbox_store.book_volume(work, ended, now)
        entries = [_entry(delivery, ack, now) for delivery, ack in applied if delivery.end_time]
        await feed_store.append(work, now, entries)

    def _count(self, ends: dict[str, int]) -> None:
        for end, count in ends.items():
            self._ended.labels(end).inc(count)


def _entry(delivery: Delivery, ack: Ack, now: datetime) -> Entry:
    event = _event(delivery)
    about = _notification(delivery, event)
    if ack.end is not End.DELIVERED:
        return feed_entries.drop(about, now, ack.end.name)
    return feed_entries.send(
        about,
        now,
        source_score=event.source_score,
        variant_id=ack.variant_id,
        style=ack.style,
    )


def _event(delivery: Delivery) -> event_pb2.Event:
    return event_pb2.Event.FromString(delivery.event)


def _notification(delivery: Delivery, event: event_pb2.Event) -> Notification:
    return Notification(
        user_id=delivery.user_id,
        decision_id=delivery.decision_id,
        delivery_id=delivery.delivery_id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        item_ids=event.item_ids,
        channel=delivery.channel,
    )
