"""From the sources' proposals for a chunk of users to events, marks and counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Self

import numpy as np

from services.candidate.events import Draft, event_id_of
from services.candidate.index import IndexState
from services.candidate.messages import digest_of, encode_part
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
        self._sources = {source.name: _told(source) for source in sources}
        self._prefix = f"daily:{day.isoformat()}"
        self._type = event_type
        self._events: dict[int, _About] = {}

    def drafts(
        self, rows: Rows, proposals: Proposals, handled: Handled
    ) -> tuple[list[Draft], list[Origin]]:
        """Drafts of what was asked, with the origin of each."""
        columns = np.array([handled.names.index(name) for name in proposals.names], np.int64)
        places, origins = np.searchsorted(rows, proposals.users), columns[proposals.sources]
        kept = np.flatnonzero(handled.asked[places, origins])
        bounds, actors = proposals.actors.indptr.tolist(), proposals.actors.indices.tolist()
        bodies = [encode_part(user_id=self._user_ids[row]) for row in rows.tolist()]
        values = zip(
            kept.tolist(),
            places[kept].tolist(),
            proposals.users[kept].tolist(),
            proposals.items[kept].tolist(),
            proposals.scores[kept].clip(0.0, 1.0).tolist(),
            origins[kept].tolist(),
            strict=True,
        )
        drafts = [
            self._draft(
                self._user_ids[user],
                bodies[place],
                self._about(item),
                handled.names[origin],
                actors[bounds[n] : bounds[n + 1]],
                score,
            )
            for n, place, user, item, score, origin in values
        ]
        return drafts, list(zip(places[kept].tolist(), origins[kept].tolist(), strict=True))

    def _draft(
        self,
        user_id: str,
        body: bytes,
        about: "_About",
        source: str,
        actors: Sequence[int],
        score: float,
    ) -> Draft:
        payload, told = self._sources[source]
        actor_ids = tuple([self._actor_ids[actor] for actor in actors])
        body = body + about.body + told + encode_part(actor_ids=actor_ids, source_score=score)
        return Draft(  # by position, as naming the fields would double its cost
            user_id,
            about.event_id,
            self._type,
            about.digest,
            body,
            None,
            None,
            about.item_ids,
            payload,
            None,
            "",
            actor_ids,
            source,
            "",
            score,
        )

    def _about(self, item: int) -> "_About":
        known = self._events.get(item)
        if known is None:
            name = self._item_ids[item]
            event_id = event_id_of(self._prefix, name)
            known = self._events[item] = _About(
                event_id,
                (name,),
                digest_of(f"{event_id}\0{self._type}".encode()),
                encode_part(event_id=event_id, event_type=self._type, item_ids=[name]),
            )
        return known


class _About(NamedTuple):
    """What all drafts about an item have in common."""

    event_id: str
    item_ids: tuple[str, ...]
    digest: bytes
    body: bytes


def _told(source: Source) -> tuple[dict[str, str], bytes]:
    """What all drafts of a source have in common: the payload, and their part of the body."""
    payload = {REASON: source.reason}
    return payload, encode_part(payload=payload, source=source.name)
