"""The type of each attribute of users and items: decided once, for all processes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from heliograph.type.v1alpha1 import event_pb2
from sqlalchemy import Row

from services.candidate import literals, requests
from services.candidate.catalogue_store import QUERIES, Record
from services.candidate.events import Refusal
from services.candidate.expressions import AttributeType
from services.candidate.messages import Refused, attribute_path, write_as
from services.runtime.database import Database, UnitOfWork

KEPT = timedelta(seconds=10)
"""How long a process may go without seeing that an operator has changed a type. Until then it may
store values of the type before, which no index takes for values."""
METHOD = "SetAttributeType"
_NUMBERS = frozenset({AttributeType.INT, AttributeType.DOUBLE})


class Owner(StrEnum):
    """Whose attributes; values as in the table."""

    USER = "user"
    ITEM = "item"


_MESSAGES: Mapping[Owner, type[event_pb2.User] | type[event_pb2.Item]] = {
    Owner.USER: event_pb2.User,
    Owner.ITEM: event_pb2.Item,
}


@dataclass(frozen=True, slots=True)
class Decided:
    """The type of an attribute."""

    owner: Owner
    name: str
    type: AttributeType
    time: datetime
    """When its first value came, or an operator set it."""


Types = Mapping[str, Decided]
"""By name, those of one owner."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What may be stored of a batch."""

    records: Sequence[Record]
    """With values that are of their attributes' types."""
    refusals: dict[int, Refusal] = field(default_factory=dict)
    """By position in the batch."""
    new: Types = field(default_factory=dict)
    """Attributes that have their first value here."""


class AttributeTypes:
    """The table of types, and what this process remembers of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[Owner, tuple[float, Types]] = {}

    async def admitted(
        self, work: UnitOfWork, owner: Owner, records: Sequence[Record], now: datetime
    ) -> Admitted:
        """What may be stored of a batch, in this unit of work, which is to store it: the types of
        new attributes are. The first to commit decides; others wait. Where all types are known and
        fit, the database isn't asked."""
        if _fit(records, self._remembered(owner)):
            return Admitted(records)
        types = await _read(work, owner)
        admitted = judged(owner, records, types, now)
        while admitted.new:
            await _insert(work, owner, admitted.new, now)
            types = await _read(work, owner)
            admitted = judged(owner, records, types, now)
        work.after_commit(lambda: self._remember(owner, types))
        return admitted

    async def conformed(self, owner: Owner, record: Record) -> Record:
        """One that is not to be stored, with values that are of their attributes' types; new
        attributes stay as they are. Raises Refused."""
        types = self._remembered(owner)
        if not _fit([record], types):
            async with self._database.read() as work:
                types = await _read(work, owner)
            self._remember(owner, types)
        return _conformed(owner, record, types)

    async def set(
        self, owner: Owner, name: str, kind: AttributeType, request_id: str, now: datetime
    ) -> None:
        """Decide a type, or change it. Raises AlreadyExists when the request id was used for
        something else."""
        digest = f"{owner}:{kind.value}:{name}".encode()
        async with self._database.unit_of_work() as work:
            if await requests.answered(work, METHOD, request_id, digest) is None:
                params = {"owner": owner.value, "name": name, "type": kind.value, "now": now}
                await work.execute(QUERIES.set_attribute_type, params)
                await requests.keep(work, METHOD, request_id, digest, b"", now)
                await work.commit()
        self._known.pop(owner, None)

    async def page(self, after: tuple[str, str], count: int) -> list[Decided]:
        """Types by owner and name, after one."""
        params = {"owner": after[0], "name": after[1], "count": count}
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.list_attribute_types, params)
        return [_decided(row) for row in rows]

    def _remembered(self, owner: Owner) -> Types:
        read, types = self._known.get(owner, (0.0, {}))
        return types if time.monotonic() - read < KEPT.total_seconds() else {}

    def _remember(self, owner: Owner, types: Types) -> None:
        self._known[owner] = time.monotonic(), types


def judged(owner: Owner, records: Sequence[Record], known: Types, now: datetime) -> Admitted:
    """What may be stored of a batch. Of a new attribute the first value decides, here too. Pure."""
    types = dict(known)
    new: dict[str, Decided] = {}
    kept: list[Record] = []
    refusals: dict[int, Refusal] = {}
    for place, record in enumerate(records):
        try:
            kept.append(_conformed(owner, record, types))
        except Refused as error:
            refusals[place] = error.refusal
            continue
        for name, kind in record.types.items():
            if name not in types:
                types[name] = new[name] = Decided(owner, name, kind, now)
    return Admitted(kept, refusals, new)


async def types_of_all(work: UnitOfWork) -> dict[Owner, dict[str, AttributeType]]:
    """The types of all attributes, by owner and name."""
    types: dict[Owner, dict[str, AttributeType]] = {owner: {} for owner in Owner}
    for row in await work.rows(QUERIES.attribute_types):
        types[Owner(row.owner)][row.name] = AttributeType(row.type)
    return types


def _fit(records: Sequence[Record], types: Types) -> bool:
    given = {pair for record in records for pair in record.types.items()}
    return all(name in types and types[name].type is kind for name, kind in given)


def _conformed(owner: Owner, record: Record, types: Types) -> Record:
    """The record with values of these types. Raises Refused."""
    others = [
        types[name]
        for name, kind in sorted(record.types.items())
        if name in types and types[name].type is not kind
    ]
    if not others:
        return record
    content = _MESSAGES[owner].FromString(record.body)
    for decided in others:
        if not write_as(content.attributes[decided.name], decided.type):
            raise _refused(decided, record.types[decided.name])
    return replace(record, body=content.SerializeToString(deterministic=True))


def _refused(decided: Decided, kind: AttributeType) -> Refused:
    path = attribute_path(decided.name)
    inexact = ", which this value can't be exactly" if {kind, decided.type} == _NUMBERS else ""
    since = decided.time.isoformat(timespec="seconds")
    message = f"{path} is {kind.value}; {decided.name} is {decided.type.value}{inexact}"
    return Refused(Refusal("ATTRIBUTE_TYPE", f"{message}, as decided at {since}", path))


async def _read(work: UnitOfWork, owner: Owner) -> Types:
    rows = await work.rows(QUERIES.attribute_types_of, {"owner": owner.value})
    return {row.name: _decided(row) for row in rows}


async def _insert(work: UnitOfWork, owner: Owner, types: Types, now: datetime) -> None:
    params = {
        "owner": owner.value,
        "names": literals.texts(types),
        "types": literals.texts(decided.type.value for decided in types.values()),
        "now": now,
    }
    await work.execute(QUERIES.insert_attribute_types, params)


def _decided(row: Row[Any]) -> Decided:
    return Decided(Owner(row.owner), row.name, AttributeType(row.type), row.set_time)
