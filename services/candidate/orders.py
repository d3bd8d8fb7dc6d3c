"""What a run of the daily generation is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from services.candidate.sources import SOURCES, Catalogue
from services.candidate.sources.arrays import Rows
from services.runtime.errors import FieldError, InvalidArgument, NotFound
from services.runtime.hashing import unit_hash, unit_hashes

SHARD_SALT = "candidate-shard"


@dataclass(frozen=True, slots=True)
class Order:
    """What to generate."""

    day: date
    user_ids: Sequence[str] = ()
    """Empty: all."""
    sources: Sequence[str] = ()
    """Empty: all registered."""
    per_source: int = 10
    shard: int = 0
    shard_count: int = 1
    ask_all: bool = False
    """Skip no source."""


def shard_of(user_id: str, shard_count: int) -> int:
    """The shard of a user, the same on every machine."""
    return int(unit_hash(SHARD_SALT, user_id) * shard_count)


def ordered_rows(catalogue: Catalogue, order: Order) -> Rows:
    """An order's users, ascending. Raises NotFound when it names users and none is known."""
    rows = np.arange(len(catalogue.user_ids))
    if order.user_ids:
        known = catalogue.user_rows
        rows = np.array(sorted({known[name] for name in order.user_ids if name in known}), np.int64)
        if not len(rows):
            raise NotFound("none of the users is known", reason="UNKNOWN_USER")
    if order.shard_count == 1:
        return rows
    ids = [catalogue.user_ids[row] for row in rows.tolist()]
    shards = (unit_hashes(ids, SHARD_SALT) * order.shard_count).astype(np.int64)
    chosen: Rows = rows[shards == order.shard]
    return chosen


def check_sources(names: Sequence[str]) -> None:
    """Raises InvalidArgument for a name that is no source."""
    unknown = [
        FieldError(f"sources[{place}]", f"{name!r} is no source; known: {', '.join(SOURCES)}")
        for place, name in enumerate(names)
        if name not in SOURCES
    ]
    if unknown:
        raise InvalidArgument(unknown[0].description, reason="UNKNOWN_SOURCE", fields=unknown)
