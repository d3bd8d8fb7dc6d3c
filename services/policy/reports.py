"""Takes reports of engagements and sessions: once each, in any order, however late."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from services.policy import engagements as rules
from services.policy import feed_entries, feed_store, report_store
from services.policy.deliveries import day_of
from services.policy.engagements import (
    Decided,
    Engagement,
    Refusal,
    ReportLimits,
    Session,
    UserChange,
)
from services.policy.erasure import Tombstones
from services.policy.feed_entries import Notification
from services.runtime.clock import Clock
from services.runtime.database import Database, UnitOfWork


class Reports:
    """Reports of users' doings; a call is one transaction, feed entries and all."""

    def __init__(
        self, database: Database, clock: Clock, tombstones: Tombstones, limits: ReportLimits
    ) -> None:
        self._database = database
        self._clock = clock
        self._tombstones = tombstones
        self._limits = limits

    async def engagements(self, reported: Sequence[Engagement]) -> list[Refusal | None]:
        """Store engagements; for each why it is not taken, or None. A repeat is taken and changes
        nothing."""
        now = self._clock.now()
        days = ((day_of(one.decision_id), one.decision_id) for one in reported)
        async with self._database.unit_of_work() as work:
            decisions = await report_store.find_decisions(
                work, ((day, decision_id) for day, decision_id in days if day is not None)
            )
            refusals = [
                rules.engagement_refusal(one, decisions.get(one.decision_id), now, self._limits)
                for one in reported
            ]
            good: dict[str, tuple[Engagement, Decided]] = {}
            for one, refusal in zip(reported, refusals, strict=True):
                if refusal is None:
                    good.setdefault(one.engagement_id, (one, decisions[one.decision_id]))
            new = await report_store.insert_engagements(work, list(good.values()))
            await self._tell(work, [found for key, found in good.items() if key in new], now)
            await self._name_erased(work, reported, refusals)
            await work.commit()
        return refusals

    async def sessions(self, reported: Sequence[Session]) -> list[Refusal | None]:
        """Store sessions and app deletes, as `engagements` does."""
        now = self._clock.now()
        async with self._database.unit_of_work() as work:
            known = await report_store.known_users(work, (one.user_id for one in reported))
            refusals = [
                rules.session_refusal(one, now, self._limits)
                if one.user_id in known
                else Refusal.UNKNOWN_USER
                for one in reported
            ]
            good: dict[tuple[str, str], Session] = {}
            for one, refusal in zip(reported, refusals, strict=True):
                if refusal is None:
                    good.setdefault((one.user_id, one.session_id), one)
            new = await report_store.insert_sessions(work, list(good.values()))
            fresh = [one for key, one in good.items() if key in new]
            changes: dict[str, UserChange] = defaultdict(UserChange)
            for one in fresh:
                if not one.app_deleted:
                    changes[one.user_id].active_times.append(one.start_time)
            await report_store.apply_changes(work, changes)
            entries = [
                feed_entries.session(
                    one.user_id, one.start_time, one.session_id, app_deleted=one.app_deleted
                )
                for one in fresh
            ]
            await feed_store.append(work, now, entries)
            await self._name_erased(work, reported, refusals)
            await work.commit()
        return refusals

    async def _tell(
        self, work: UnitOfWork, fresh: Sequence[tuple[Engagement, Decided]], now: datetime
    ) -> None:
        changes: dict[str, UserChange] = defaultdict(UserChange)
        for engagement, decided in fresh:
            rules.note_engagement(changes[engagement.user_id], engagement, decided)
        await report_store.apply_changes(work, changes)
        entries = [
            feed_entries.engagement(
                _notification(decided),
                engagement.engage_time,
                engagement_id=engagement.engagement_id,
                kind=engagement.kind,
                decide_time=decided.decide_time,
                segment=decided.segment,
            )
            for engagement, decided in fresh
        ]
        await feed_store.append(work, now, entries)

    async def _name_erased(
        self,
        work: UnitOfWork,
        reported: Sequence[Engagement] | Sequence[Session],
        refusals: list[Refusal | None],
    ) -> None:
        """Where nothing is known because the user was erased, say so."""
        unknown = {
            index: reported[index].user_id
            for index, refusal in enumerate(refusals)
            if refusal in (Refusal.UNKNOWN_DECISION, Refusal.UNKNOWN_USER)
        }
        erased = await self._tombstones.among(work, unknown.values())
        for index, user_id in unknown.items():
            if user_id in erased:
                refusals[index] = Refusal.ERASED_USER


def _notification(decided: Decided) -> Notification:
    return Notification(
        user_id=decided.user_id,
        decision_id=decided.decision_id,
        delivery_id=decided.delivery_id,
        event_id=decided.event_id,
        event_type=decided.event_type,
        item_ids=decided.item_ids,
        channel=decided.channel,
    )
