"""Decides batches: reads, decides, and writes everything in one transaction."""

from collections.abc import Callable, Sequence
from datetime import datetime

from heliograph.policy.v1alpha1 import decide_pb2

from services.policy import control_store, decide_store, feed_store, switch_store
from services.policy.batch import Event, Slot, Surroundings
from services.policy.decide_store import Key, Stored
from services.policy.deciding import Decided, Policy, Randomness, decide
from services.policy.decision_messages import decision_message, feed_entry
from services.policy.experiment_store import ExperimentStore
from services.policy.judging import Model
from services.policy.settings import PolicySettings
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.database import Database, UnitOfWork

EventMessage = Callable[[Slot, Event], bytes]
"""The Event message of a slot's event."""


class Decider:
    """The engine behind Decide."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: PolicySettings,
        experiments: ExperimentStore,
    ) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._experiments = experiments
        self._decided = metrics.counter(
            "policy", "decisions", "", "Decisions by reason, arm and channel.",
            ["reason", "arm", "channel"],
        )  # fmt: skip
        self._removed = metrics.counter(
            "policy", "options_removed", "", "Options removed by each rule.", ["rule"]
        )

    async def decide(
        self,
        slots: Sequence[Slot],
        heads: Sequence[int],
        trained: Sequence[int],
        event_message: EventMessage,
        *,
        dry_run: bool = False,
    ) -> list[decide_pb2.Decision | None]:
        """Decide slots, each (user, slot id) named once; answers in their order, None for users
        that are not known.

        A dry run answers the same, waits for nobody and writes nothing.
        """
        if not slots:
            return []
        now = self._clock.now()
        async with self._database.unit_of_work() as work:
            experiments = await self._experiments.current(work)
            users = await decide_store.read_users(
                work, (slot.user_id for slot in slots), experiments, now, lock=not dry_run
            )
            known = [slot for slot in slots if slot.user_id in users]
            answers = await decide_store.stored_answers(work, known)
            new = [slot for slot in known if (slot.user_id, slot.slot_id) not in answers]
            messages = {key: decide_pb2.Decision.FromString(one) for key, one in answers.items()}
            if new:
                await decide_store.mark_decided_events(work, new, users)
                policy = await self._policy(work, heads, trained, now)
                decided = decide(new, users, policy)
                messages |= await self._answered(work, decided, event_message, now, dry_run)
                if not dry_run:
                    await work.commit()
                    self._count(decided)
        return [messages.get((slot.user_id, slot.slot_id)) for slot in slots]

    async def _policy(
        self, work: UnitOfWork, heads: Sequence[int], trained: Sequence[int], now: datetime
    ) -> Policy:
        settings = self._settings
        cells = await control_store.read_cells(work)
        return Policy(
            around=Surroundings(
                now=now,
                switches=await switch_store.closed(work),
                caps=settings.caps,
                quiet_hours=settings.quiet_hours,
                paused_retry_seconds=settings.paused_retry_minutes * 60,
            ),
            model=Model(heads, trained, await control_store.read_objectives(work)),
            thresholds=control_store.thresholds_of(
                cells, settings.default_threshold, settings.threshold_band, settings.utility_floor
            ),
            randomness=Randomness(settings.arm_salt, settings.arms, settings.exploration),
            slots=settings.slots,
        )

    async def _answered(
        self,
        work: UnitOfWork,
        decided: Decided,
        event_message: EventMessage,
        now: datetime,
        dry_run: bool,
    ) -> dict[Key, decide_pb2.Decision]:
        """The messages; and unless it is a dry run, everything written. Invariant 4."""
        messages: dict[Key, decide_pb2.Decision] = {}
        stored: list[Stored] = []
        for one in decided.decisions:
            message = decision_message(one)
            messages[one.user.user_id, one.slot.slot_id] = message
            if not one.deferred:
                event = b"" if one.event is None else event_message(one.slot, one.event)
                stored.append(Stored(one, message.SerializeToString(), event))
        if not dry_run:
            size = self._settings.offer_sample
            offers = {cell: one.sample(size) for cell, one in decided.offers.items()}
            await decide_store.write(work, stored, offers, now)
            await control_store.open_thresholds(work, decided.opened)
            await feed_store.append(work, now, [feed_entry(one.decision) for one in stored])
        return messages

    def _count(self, decided: Decided) -> None:
        for one in decided.decisions:
            self._decided.labels(one.reason, one.arm.name.lower(), str(one.channel)).inc()
            if one.explanation is not None:
                for step in one.explanation.steps():
                    if step.removed_count:
                        self._removed.labels(step.rule).inc(step.removed_count)
