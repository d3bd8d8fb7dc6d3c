"""Accepts events: the only way into the pool and the ready queue."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.candidate import catalogue_store, event_store
from services.candidate.admission import Admission
from services.candidate.aggregation import MergePlan, aggregation_key, plan_merges
from services.candidate.event_store import EventKey, NewEvent
from services.candidate.event_types import EventTypes
from services.candidate.events import Draft, End, Refusal, Route, TypeRules
from services.candidate.messages import encode_admitted
from services.candidate.ordering import ItemRanker
from services.candidate.repeats import Content, repetition
from services.runtime import metrics
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import Aborted


@dataclass(slots=True)
class Published:
    """What became of a batch."""

    refusals: dict[int, Refusal] = field(default_factory=dict)
    """By position in the batch; all others are accepted."""
    added: dict[EventKey, int] = field(default_factory=dict)
    """Events that are new, with their position; replays are not among them."""
    evicted: dict[EventKey, End] = field(default_factory=dict)
    """Events that had to leave full pools, with their end; new ones may be among them."""
    merged: int = 0
    """New events that were merged into others."""
    suppressed: Counter[str] = field(default_factory=Counter)
    """New events that ended as repetitions, by reason."""


class Publisher:
    """Judges, merges and stores offered events, a batch in one transaction."""

    def __init__(
        self,
        database: Database,
        types: EventTypes,
        ranker: ItemRanker,
        *,
        pool_size: int,
        tolerance: timedelta,
    ) -> None:
        self._database = database
        self._types = types
        self._ranker = ranker
        self._pool_size = pool_size
        self._tolerance = tolerance
        self._accepted = metrics.counter(
            "candidate", "events_accepted", "", "Events that are new in the pool or queue."
        )
        self._refused = metrics.counter(
            "candidate", "events_rejected", "", "Events that were rejected.", ["reason"]
        )
        self._ended = metrics.counter(
            "candidate", "events_ended", "", "Events that ended, by end.", ["end"]
        )
        self._repeats = metrics.counter(
            "candidate", "events_repeated", "", "Suppressed repetitions, by reason.", ["reason"]
        )

    async def publish(self, drafts: Sequence[Draft], now: datetime) -> Published:
        """Accept a batch; all that is accepted is committed when this returns."""
        if not drafts:  # no need of a connection
            return Published()
        async with self._database.unit_of_work() as work:
            published = await self.publish_in(work, drafts, now)
            await work.commit()
        return published

    async def publish_in(
        self, work: UnitOfWork, drafts: Sequence[Draft], now: datetime
    ) -> Published:
        """The same inside a unit of work that the caller commits.

        Hardly any batch has an event that was accepted before. So only those are looked up that
        would be refused if they are no replays; of the others the table's key tells, and then all
        are looked up and judged again.
        """
        if not drafts:
            return Published()
        rules = await self._types.rules(work, {draft.event_type for draft in drafts})
        offered = await self._admitted(work, drafts, rules, now)
        arriving = _arriving(drafts, offered)
        bounds = await event_store.claim_pools(work, arriving)
        doubtful = {
            draft.key
            for draft, judged in zip(drafts, offered, strict=True)
            if isinstance(judged, Refusal)
        }
        stored = await event_store.stored_digests(work, doubtful)
        published, accepted = _judged(drafts, offered, bounds, stored)
        new, plan = await self._planned(work, accepted, rules, now)
        if not await event_store.insert(work, new, now):
            stored = await event_store.stored_digests(work, {draft.key for draft in drafts})
            published, accepted = _judged(drafts, offered, bounds, stored)
            new, plan = await self._planned(work, accepted, rules, now)
            if not await event_store.insert(work, new, now):
                raise Aborted("a concurrent call stored the same; repeat the call")
        await self._grow(work, new, plan)
        published.merged = sum(1 for entry in new if entry.merged_into)
        published.suppressed.update(entry.suppressed for entry in new if entry.suppressed)
        arrived = [entry for entry in new if entry.route is Route.RANKED and entry.waits]
        arrived_counts = Counter([entry.event.user_id for entry in arrived])
        published.evicted, settled = await event_store.bound_pools(
            work, bounds, arriving, arrived_counts, self._pool_size, now
        )
        told = event_store.announcement(_readers(arrived, plan, now), now)
        await work.execute_all([*settled, *told])
        work.after_commit(lambda: self._count(published))
        return published

    async def _admitted(
        self,
        work: UnitOfWork,
        drafts: Sequence[Draft],
        rules: Mapping[str, TypeRules],
        now: datetime,
    ) -> list[NewEvent | Refusal]:
        """What each draft comes to by itself: all that needs no lock on its user, as another batch
        may still hold it."""
        items = {item for draft in drafts for item in draft.item_ids}
        deleted = await catalogue_store.deleted_items(work, items)
        admission = Admission(rules, now, tolerance=self._tolerance, deleted_items=deleted)
        return await self._ranked(
            [
                judged
                if isinstance(judged, Refusal)
                else NewEvent(
                    judged,
                    rules[judged.event_type].route,
                    draft.digest,
                    encode_admitted(draft, judged),
                )
                for draft, judged in zip(drafts, admission.admit(drafts), strict=True)
            ]
        )

    async def _planned(
        self,
        work: UnitOfWork,
        accepted: Sequence[NewEvent],
        rules: Mapping[str, TypeRules],
        now: datetime,
    ) -> tuple[Sequence[NewEvent], MergePlan]:
        """New events as they are to be stored, merged or suppressed where their types say so."""
        plan = await self._plan(work, accepted, rules, now)
        return await self._suppressed(work, _merged(accepted, plan), rules, now), plan

    async def _ranked(self, offered: Sequence[NewEvent | Refusal]) -> list[NewEvent | Refusal]:
        """The same, events of the ranked route with their items best first and, where the
        publisher gives no score, the score that follows from the items."""
        ranked = list(offered)
        entries = [
            (place, entry)
            for place, entry in enumerate(offered)
            if isinstance(entry, NewEvent)
            and entry.route is Route.RANKED
            and (len(entry.event.item_ids) > 1 or not entry.event.source_score)
            and entry.event.item_ids
        ]
        if not entries:
            return ranked
        about = [(entry.event.user_id, entry.event.item_ids) for _, entry in entries]
        found = await self._ranker.rank(about)
        for (place, entry), items in zip(entries, found, strict=True):
            event = entry.event
            score = event.source_score or items.score
            if items.item_ids != event.item_ids or score != event.source_score:
                better = event._replace(item_ids=items.item_ids, source_score=score)
                ranked[place] = entry.changed(better)
        return ranked

    async def _plan(
        self,
        work: UnitOfWork,
        accepted: Sequence[NewEvent],
        rules: Mapping[str, TypeRules],
        now: datetime,
    ) -> MergePlan:
        if not any(rule.window for rule in rules.values()):
            return MergePlan()
        pairs = [(entry.event, rules[entry.event.event_type]) for entry in accepted]
        keyed = [
            (key, rule)
            for event, rule in pairs
            if (key := aggregation_key(event, rule)) is not None
        ]
        if not keyed:
            return MergePlan()
        waiting = await event_store.mergeable(work, {key for key, _ in keyed}, now)
        timed = {key[0] for key, rule in keyed if rule.digest and rule.digest.hour is not None}
        return plan_merges(pairs, waiting, await catalogue_store.time_zones(work, timed), now)

    async def _suppressed(
        self,
        work: UnitOfWork,
        new: Sequence[NewEvent],
        rules: Mapping[str, TypeRules],
        now: datetime,
    ) -> Sequence[NewEvent]:
        """The events, those that are repetitions with their end. Events with an aggregation key
        are merged instead."""
        windows = {name: rule.repeat_window for name, rule in rules.items() if rule.repeat_window}
        judged = [
            entry
            for entry in (new if windows else ())
            if entry.event.event_type in windows
            and aggregation_key(entry.event, rules[entry.event.event_type]) is None
        ]
        if not judged:
            return new
        items = {item for entry in judged for item in entry.event.item_ids}
        titles = await catalogue_store.item_titles(work, items)
        since = {_place(entry): now - windows[entry.event.event_type] for entry in judged}
        past = await event_store.past_contents(work, since, now)
        told = dict(_told(judged, titles, past))
        return [told.get((entry.event.user_id, entry.event.event_id), entry) for entry in new]

    async def _grow(self, work: UnitOfWork, new: Sequence[NewEvent], plan: MergePlan) -> None:
        if plan.grown:
            fresh = {(entry.event.user_id, entry.event.event_id) for entry in new}
            stored = [event for key, event in plan.grown.items() if key not in fresh]
            await event_store.grow(work, stored, plan.ready_times)

    def _count(self, published: Published) -> None:
        self._accepted.inc(len(published.added))
        for refusal in published.refusals.values():
            self._refused.labels(refusal.reason).inc()
        self._ended.labels(End.MERGED.name).inc(published.merged)
        for end, count in Counter(published.evicted.values()).items():
            self._ended.labels(end.name).inc(count)
        self._ended.labels(End.SUPPRESSED.name).inc(published.suppressed.total())
        for reason, count in published.suppressed.items():
            self._repeats.labels(reason).inc(count)


def _arriving(drafts: Sequence[Draft], offered: Sequence[NewEvent | Refusal]) -> Counter[str]:
    """By user, everyone among them who is named in a draft, how many events may come into the
    pool."""
    ranked = [
        judged.event.user_id
        for judged in offered
        if isinstance(judged, NewEvent) and judged.route is Route.RANKED
    ]
    arriving = Counter(ranked)
    if len(ranked) < len(drafts):
        arriving.update(dict.fromkeys((draft.user_id for draft in drafts), 0))
    return arriving


def _judged(
    drafts: Sequence[Draft],
    offered: Sequence[NewEvent | Refusal],
    users: Collection[str],
    stored: Mapping[EventKey, bytes],
) -> tuple[Published, list[NewEvent]]:
    """What becomes of drafts, and the new events among them. A replay of what is stored, by
    digests, or of an earlier draft is neither new nor refused, whatever has become of it since."""
    keys = [(draft.user_id, draft.event_id) for draft in drafts]
    new = [judged for judged in offered if isinstance(judged, NewEvent)]
    all_new = len(new) == len(set(keys)) == len(keys) and not stored
    if all_new and all(user in users for user, _ in keys):
        return Published(added=dict(zip(keys, range(len(keys)), strict=True))), new
    published, accepted, seen = Published(), [], dict(stored)
    for place, (draft, judged) in enumerate(zip(drafts, offered, strict=True)):
        key = draft.user_id, draft.event_id
        known = seen.get(key)
        if known == draft.digest:
            continue
        refusal = _wrong_key(draft, users, known)
        if refusal is None:
            if isinstance(judged, NewEvent):
                seen[key] = draft.digest
                published.added[key] = place
                accepted.append(judged)
                continue
            refusal = judged
        published.refusals[place] = refusal
    return published, accepted


def _merged(accepted: Sequence[NewEvent], plan: MergePlan) -> Sequence[NewEvent]:
    touched = plan.grown.keys() | plan.merged_into.keys() | plan.ready_times.keys()
    if not touched:
        return accepted
    planned = list(accepted)
    for place, entry in enumerate(accepted):
        key = entry.event.user_id, entry.event.event_id
        if key in touched:
            grown = entry.changed(plan.grown[key]) if key in plan.grown else entry
            planned[place] = grown._replace(
                merged_into=plan.merged_into.get(key, ""),
                ready_time=plan.ready_times.get(key),
            )
    return planned


def _readers(arrived: Sequence[NewEvent], plan: MergePlan, now: datetime) -> set[str]:
    """Users in whose pools there is something new to see: not what is held."""
    seen = {
        entry.event.user_id
        for entry in arrived
        if entry.ready_time is None or entry.ready_time <= now
    }
    return seen | {user for (user, _), ready in plan.ready_times.items() if ready <= now}


def _place(entry: NewEvent) -> tuple[str, str]:
    return entry.event.user_id, entry.event.event_type


def _told(
    judged: Iterable[NewEvent],
    titles: Mapping[str, str],
    past: Mapping[tuple[str, str], Sequence[Content]],
) -> Iterator[tuple[EventKey, NewEvent]]:
    """Events by key with their contents and, for repetitions of what was or of an earlier one among
    them, the reason."""
    known = {place: list(contents) for place, contents in past.items()}
    for entry in judged:
        content = Content.of(entry.event, titles)
        before = known.setdefault(_place(entry), [])
        reason = repetition(content, before)
        if not reason:
            before.append(content)
        key = entry.event.user_id, entry.event.event_id
        yield key, entry._replace(content=content, suppressed=reason)


def _wrong_key(draft: Draft, users: Collection[str], known: bytes | None) -> Refusal | None:
    if draft.user_id not in users:
        message = f"user {draft.user_id!r} is unknown; store it with UpsertUsers first"
        return Refusal("UNKNOWN_USER", message, "user_id")
    if known is not None:
        message = f"event id {draft.event_id!r} was used for another event of this user"
        return Refusal("EVENT_ID_REUSED", message, "event_id")
    return None
