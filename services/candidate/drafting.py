"""From the sources' proposals for a chunk of users to events, marks and counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise, repeat
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from services.candidate.events import Draft, event_id_of
from services.candidate.index import IndexState
from services.candidate.messages import digest_of, encode_part, encode_scores
from services.candidate.sources import Proposals, Source, SourceCount
from services.candidate.sources.arrays import Mask, Matrix, Rows
from services.candidate.sources.availability import Yields

REASON = "reason"
"""Name in a generated event's payload of why its source proposed it, for machines."""


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

    def yields(self, groups: Rows, accepted: Rows, counts: Mapping[str, SourceCount]) -> Yields:
        """Counts by group: `accepted` are the origins of candidates that became events, the user's
        place in the chunk and the source's in the plan; candidates × 2."""
        table = np.zeros(self.asked.shape, np.int64)
        np.add.at(table, (accepted[:, 0], accepted[:, 1]), 1)
        seconds = [counts[name].seconds if name in counts else 0.0 for name in self.names]
        return Yields.counted(groups, self.asked, self.skipped, table, np.array(seconds))


class About(NamedTuple):
    """What all drafts about an item have in common."""

    event_id: str
    item_ids: tuple[str, ...]
    digest: bytes
    body: bytes


class Drafting:
    """Makes drafts of one day; what they share of an item or a source is made once. There are
    dozens for each user, so they are made column by column."""

    def __init__(
        self, state: IndexState, sources: Sequence[Source], day: date, event_type: str
    ) -> None:
        self._user_ids = state.catalogue.user_ids
        self._item_ids = state.catalogue.item_ids
        self._actor_ids = state.relations.actor_ids
        self._payloads = {source.name: {REASON: source.reason} for source in sources}
        self._told = {
            name: encode_part(payload=payload, source=name)
            for name, payload in self._payloads.items()
        }
        self._prefix = f"daily:{day.isoformat()}"
        self._type = event_type
        self._events: dict[int, About] = {}

    def drafts(
        self, rows: Rows, proposals: Proposals, handled: Handled
    ) -> tuple[list[Draft], Rows]:
        """Drafts of what was asked, with their origins (see `Handled.yields`). `rows` are those of
        the chunk's users, ascending."""
        columns = np.array([handled.names.index(name) for name in proposals.names], np.int64)
        places, origins = np.searchsorted(rows, proposals.users), columns[proposals.sources]
        kept = np.flatnonzero(handled.asked[places, origins])
        ids = [self._user_ids[row] for row in rows.tolist()]
        drafts = self._drafts(
            [ids[place] for place in places[kept].tolist()],
            list(map(self._about, proposals.items[kept].tolist())),
            [handled.names[source] for source in origins[kept].tolist()],
            self._actors(proposals.actors[kept]),
            proposals.scores[kept].clip(0.0, 1.0).astype(np.float64),
        )
        return drafts, np.stack([places[kept], origins[kept]], axis=1)

    def _drafts(
        self,
        users: Sequence[str],
        about: Sequence[About],
        sources: Sequence[str],
        actors: Sequence[tuple[str, ...]],
        scores: npt.NDArray[np.float64],
    ) -> list[Draft]:
        named = {name: encode_part(user_id=name) for name in set(users)}
        parts = zip(
            [named[user] for user in users],
            [each.body for each in about],
            [self._told[source] for source in sources],
            [encode_part(actor_ids=ids) if ids else b"" for ids in actors],
            encode_scores(scores),
            strict=True,
        )
        columns = zip(  # in the order of Draft's fields
            users,
            [each.event_id for each in about],
            repeat(self._type),
            [each.digest for each in about],
            map(b"".join, parts),
            repeat(None),
            repeat(None),
            [each.item_ids for each in about],
            [self._payloads[source] for source in sources],
            repeat(None),
            repeat(""),
            actors,
            sources,
            repeat(""),
            scores.tolist(),
            strict=False,
        )
        return list(map(Draft._make, columns))

    def _about(self, item: int) -> About:
        known = self._events.get(item)
        if known is None:
            name = self._item_ids[item]
            event_id = event_id_of(self._prefix, name)
            known = self._events[item] = About(
                event_id,
                (name,),
                digest_of(f"{event_id}\0{self._type}".encode()),
                encode_part(event_id=event_id, event_type=self._type, item_ids=[name]),
            )
        return known

    def _actors(self, named: Matrix) -> list[tuple[str, ...]]:
        if not named.nnz:
            return [()] * named.shape[0]
        bounds = named.indptr.tolist()
        ids = [self._actor_ids[actor] for actor in named.indices.tolist()]
        return [tuple(ids[begin:end]) for begin, end in pairwise(bounds)]
