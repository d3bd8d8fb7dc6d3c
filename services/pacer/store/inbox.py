"""Messages of the inbox channel."""

import json
from collections.abc import Sequence
from datetime import datetime

from services.pacer.messages import Message
from services.pacer.store.queries import QUERIES
from services.runtime.database import Database

_COLUMNS = (
    "delivery_id",
    "decision_id",
    "user_id",
    "event_id",
    "event_type",
    "channel",
    "title",
    "body",
    "variant_id",
    "deliver_time",
    "preview",
)


class InboxStore:
    """Users' messages in Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, messages: Sequence[Message]) -> None:
        """Store messages; those that are there already stay as they are."""
        columns: dict[str, list[object]] = {
            name: [getattr(message, name) for message in messages] for name in _COLUMNS
        }
        columns["item_ids"] = [json.dumps(message.item_ids) for message in messages]
        async with self._database.unit_of_work() as work:
            await work.execute(QUERIES.add_messages, columns)
            await work.commit()

    async def page(self, user_id: str, before: tuple[datetime, str], limit: int) -> list[Message]:
        """A user's messages before (time, delivery id), newest first."""
        given = {"user_id": user_id, "before_time": before[0], "before_id": before[1]}
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.list_messages, given | {"limit": limit})
        return [
            Message(
                delivery_id=row.delivery_id,
                decision_id=row.decision_id,
                user_id=row.user_id,
                event_id=row.event_id,
                event_type=row.event_type,
                item_ids=tuple(row.item_ids),
                channel=row.channel,
                address="",
                locale="",
                title=row.title,
                body=row.body,
                variant_id=row.variant_id,
                deliver_time=row.deliver_time,
                preview=row.preview,
            )
            for row in rows
        ]

    async def prune(self, before: datetime) -> None:
        """Remove messages that came before."""
        async with self._database.unit_of_work() as work:
            await work.execute(QUERIES.prune_messages, {"before": before})
            await work.commit()
