"""From the sources' proposals for a chunk of users to events, marks and counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Self

import numpy as np

from services.candidate.events import Draft, event_id_of
from services.candidate.index import IndexState
from services.candidate.messages import digest_of
from services.candidate.sources import Proposals, Source, SourceCount
from services.candidate.sources.arrays import Mask, Rows
from services.candidate.sources.availability import Yields

REASON = "reason"
"""Name in a generated event's payload of why its source proposed it, for machines."""

Origin = tuple[int, int]
"""Of a draft: the user's place in the chunk, and the source's in the plan."""


@dataclass(frozen=True, eq=False, slots=True)
class Handled:
    """What happens with each source for each user of a chunk: tables of users × sources."""

    names: Sequence[str]
    done: Mask
    """Asked, or the source says itself that it has nothing: not to be asked again on the day."""
    asked: Mask
    skipped: Mask

    @classmethod
    def of(cls, names: Sequence[str], missing: Mask, allowed: Mask, proposals: Proposals) -> Self:
        """`missing` wasn't asked on the day yet, `allowed` isn't skipped. A source that failed is
        neither asked nor skipped."""
        worth = np.zeros_like(missing)
        answered = [names.index(name) for name in proposals.names]
        worth[:, answered] = proposals.worth
        missing = missing & np.isin(np.arange(len(names)), answered)
        return cls(
            names=names,
            done=missing & (allowed | ~worth),
            asked=missing & allowed & worth,
            skipped=missing & ~allowed & worth,
        )

    def marks(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """By user id the sources that are done, for users with any."""
        patterns: dict[bytes, list[str]] = {}
        found = {}
        for place in np.flatnonzero(self.done.any(axis=1)).tolist():
            pattern = self.done[place].tobytes()
            if pattern not in patterns:
                patterns[pattern] = [
                    self.names[n] for n in np.flatnonzero(self.done[place]).tolist()
                ]
            found[ids[place]] = patterns[pattern]
        return found

    def yields(
        self, groups: Rows, accepted: Sequence[Origin], counts: Mapping[str, SourceCount]
    ) -> Yields:
        """Counts by group: `accepted` are the origins of candidates that became events."""
        table = np.zeros(self.asked.shape, np.int64)
        if accepted:
            places, columns = np.array(accepted).T
            np.add.at(table, (places, columns), 1)
        seconds = [counts[name].seconds if name in counts else 0.0 for name in self.names]
        return Yields.counted(groups, self.asked, self.skipped, table, np.array(seconds))


class Drafting:
    """Makes drafts of one day; what they share of an item or a source is made once."""

    def __init__(
        self, state: IndexState, sources: Sequence[Source], day: date, event_type: str
    ) -> None:
        self._user_ids = state.catalogue.user_ids
        self._item_ids = state.catalogue.item_ids
        self._actor_ids = state.relations.actor_ids
        self._payloads = {source.name: {REASON: source.reason} for source in sources}
        self._prefix = f"daily:{day.isoformat()}"
        self._type = event_type
        self._events: dict[int, tuple[str, bytes]] = {}

    def drafts(
        self, rows: Rows, proposals: Proposals, handled: Handled
    ) -> tuple[list[Draft], list[Origin]]:
        """Drafts of what was asked, with the origin of each."""
        columns = np.array([handled.names.index(name) for name in proposals.names], np.int64)
        places, origins = np.searchsorted(rows, proposals.users), columns[proposals.sources]
        kept = np.flatnonzero(handled.asked[places, origins])
        bounds, actors = proposals.actors.indptr.tolist(), proposals.actors.indices.tolist()
        values = zip(
            kept.tolist(),
            proposals.users[kept].tolist(),
            proposals.items[kept].tolist(),
            proposals.scores[kept].clip(0.0, 1.0).tolist(),
            origins[kept].tolist(),
            strict=True,
        )
        drafts = [
            self._draft(user, item, score, handled.names[origin], actors[bounds[n] : bounds[n + 1]])
            for n, user, item, score, origin in values
        ]
        return drafts, list(zip(places[kept].tolist(), origins[kept].tolist(), strict=True))

    def _draft(
        self, user: int, item: int, score: float, source: str, actors: Sequence[int]
    ) -> Draft:
        known = self._events.get(item)
        if known is None:
            event_id = event_id_of(self._prefix, self._item_ids[item])
            known = event_id, digest_of(f"{event_id}\0{self._type}".encode())
            self._events[item] = known
        return Draft(
            user_id=self._user_ids[user],
            event_id=known[0],
            event_type=self._type,
            digest=known[1],
            item_ids=(self._item_ids[item],),
            payload=self._payloads[source],
            actor_ids=tuple([self._actor_ids[actor] for actor in actors]),
            source=source,
            source_score=score,
        )
