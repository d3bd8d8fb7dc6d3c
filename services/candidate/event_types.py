"""Registered event types."""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from heliograph.type.v1alpha1 import event_pb2

from services.candidate import requests
from services.candidate.events import TypeRules
from services.candidate.messages import digest_of, read_rules, stored_event_type
from services.runtime import templates
from services.runtime.database import Database, UnitOfWork, load_queries
from services.runtime.durations import in_words
from services.runtime.errors import FieldError, InvalidArgument, NotFound

QUERIES = load_queries(Path(__file__).with_name("catalogue_queries.sql"))
METHOD = "PutEventType"


class EventTypes:
    """Event types in Postgres; what is parsed is kept by name and version."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._parsed: dict[str, tuple[int, event_pb2.EventType, TypeRules]] = {}

    async def put(
        self, event_type: event_pb2.EventType, request_id: str, now: datetime
    ) -> event_pb2.EventType:
        """Register or change a type; its version grows with each change. Raises AlreadyExists when
        the request id was used for something else, InvalidArgument for a template that is none
        and for digests that would wait longer than they live."""
        _check_templates(event_type)
        _check_wait(read_rules(event_type))
        event_type.ClearField("version")
        body = event_type.SerializeToString(deterministic=True)
        async with self._database.unit_of_work() as work:
            answer = await requests.answered(work, METHOD, request_id, digest_of(body))
            if answer is not None:
                return event_pb2.EventType.FromString(answer)
            await work.execute(QUERIES.put_event_type, {"name": event_type.name, "body": body})
            stored = (await self.of(work, [event_type.name]))[event_type.name]
            await requests.keep(
                work, METHOD, request_id, digest_of(body), stored.SerializeToString(), now
            )
            await work.commit()
        return stored

    async def get(self, name: str) -> event_pb2.EventType:
        """One type. Raises NotFound."""
        async with self._database.read() as work:
            found = await self.of(work, [name])
        if name not in found:
            raise NotFound(f"there is no event type {name!r}", reason="UNKNOWN_EVENT_TYPE")
        return found[name]

    async def page(self, after: str, count: int) -> list[event_pb2.EventType]:
        """Types by name, after a name."""
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.list_event_types, {"after": after, "count": count})
        return [stored_event_type(row.body, row.version) for row in rows]

    async def of(self, work: UnitOfWork, names: Collection[str]) -> dict[str, event_pb2.EventType]:
        """Those of the types that are registered, by name, as they are now."""
        return {name: kept[1] for name, kept in (await self._current(work, names)).items()}

    async def rules(self, work: UnitOfWork, names: Collection[str]) -> dict[str, TypeRules]:
        """The rules of those types that are registered, by name, as they are now."""
        return {name: kept[2] for name, kept in (await self._current(work, names)).items()}

    async def _current(
        self, work: UnitOfWork, names: Collection[str]
    ) -> dict[str, tuple[int, event_pb2.EventType, TypeRules]]:
        rows = await work.rows(QUERIES.get_event_types, {"names": sorted(set(names))})
        current = {}
        for row in rows:
            kept = self._parsed.get(row.name)
            if kept is None or kept[0] != row.version:
                event_type = stored_event_type(row.body, row.version)
                kept = self._parsed[row.name] = (row.version, event_type, read_rules(event_type))
            current[row.name] = kept
        return current


def _check_wait(rules: TypeRules) -> None:
    wait = rules.digest.maximum_wait if rules.digest else None
    if wait is not None and wait >= rules.time_to_live:
        message = f"must be less than time_to_live ({in_words(rules.time_to_live)})"
        raise InvalidArgument(
            f"event_type.aggregation.maximum_wait: {message}",
            fields=[FieldError("event_type.aggregation.maximum_wait", message)],
        )


def _check_templates(event_type: event_pb2.EventType) -> None:
    texts = {
        f"templates[{place}].{name}": text
        for place, template in enumerate(event_type.templates)
        for name, text in (("title", template.title), ("body", template.body))
    }
    wrong = [
        FieldError(f"event_type.{path}", problem)
        for path, text in texts.items()
        if (problem := templates.check(text)) is not None
    ]
    if wrong:
        message = f"{wrong[0].path}: {wrong[0].description}"
        raise InvalidArgument(message, reason="INVALID_TEMPLATE", fields=wrong)
