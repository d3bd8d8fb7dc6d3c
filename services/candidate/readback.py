"""Recommendations read back by their ids, with the interactions that name them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from services.candidate.catalogue_store import QUERIES as CATALOGUE
from services.candidate.catalogue_store import Interaction
from services.candidate.questions import Direction, Subject
from services.candidate.rotation import QUERIES
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import NotFound

MOST_INTERACTIONS = 100


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a stored answer, behind which reading goes on."""

    page: int = 0
    place: int = 0
    """In the page, from 1."""


@dataclass(frozen=True, slots=True)
class Named:
    """An interaction that names the recommendation."""

    interaction: Interaction
    rank: int
    """Where the answer has it, from 1; 0: it is not what was recommended."""


@dataclass(frozen=True, slots=True)
class Naming:
    """The interactions that name a recommendation."""

    newest: Sequence[Named] = ()
    """Newest first."""
    count: int = 0
    """Of all."""
    ranked: int = 0
    """How many of all have a rank."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored answer, or a part of what it returned."""

    subject: Subject
    scenario: str
    answer_time: datetime
    page_count: int
    returned_count: int
    ids: Sequence[str]
    """In the order of the answer."""
    next: Position | None
    """Where the rest of the ids begins; None: there is no more."""
    naming: Naming


async def read(
    database: Database, recommendation_id: str, after: Position | None, count: int
) -> Kept:
    """An answer with `count` of its ids, behind a position; from the start with the interactions.
    Raises NotFound."""
    name = {"recommendation_id": recommendation_id}
    start = after or Position()
    async with database.read() as work:
        first = await work.rows(QUERIES.get_recommendation, name)
        if not first:
            message = (
                f"recommendation {recommendation_id!r} was not given, or longer ago than"
                " recommendations are kept"
            )
            raise NotFound(message, reason="UNKNOWN_RECOMMENDATION")
        (answer,) = first
        subject = Subject(Direction(answer.direction), answer.subject)
        part = {"page": start.page, "place": start.place, "count": count + 1}
        rows = await work.rows(QUERIES.returned_ids, name | part)
        ids = [row.id for row in rows[:count]]
        if subject.direction.returns_users:
            ids = await _stored_users(work, ids)
        naming = await _naming(work, recommendation_id, subject) if after is None else Naming()
    last = rows[count - 1] if len(rows) > count else None
    return Kept(
        subject=subject,
        scenario=answer.scenario,
        answer_time=answer.answer_time,
        page_count=answer.page_count,
        returned_count=answer.returned_count,
        ids=ids,
        next=Position(last.page, last.place) if last else None,
        naming=naming,
    )


async def _stored_users(work: UnitOfWork, ids: Sequence[str]) -> list[str]:
    """Those who are still stored: an answer that was on its way while a user was removed may name
    the user."""
    rows = await work.rows(CATALOGUE.known_users, {"user_ids": ids})
    known = {row.user_id for row in rows}
    return [name for name in ids if name in known]


async def _naming(work: UnitOfWork, recommendation_id: str, subject: Subject) -> Naming:
    params = {
        "recommendation_id": recommendation_id,
        "direction": int(subject.direction),
        "subject": subject.name,
        "count": MOST_INTERACTIONS,
    }
    rows = await work.rows(QUERIES.interactions_naming, params)
    if not rows:
        return Naming()
    newest = [_named(row, recommendation_id) for row in rows]
    return Naming(newest, rows[0].named_count, rows[0].ranked_count)


def _named(row: Row[Any], recommendation_id: str) -> Named:
    interaction = Interaction(
        user_id=row.user_id,
        item_id=row.item_id,
        interact_time=row.interact_time,
        weight=row.weight,
        kind=row.kind,
        recommendation_id=recommendation_id,
    )
    return Named(interaction, row.rank)
