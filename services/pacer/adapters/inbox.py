"""The inbox: messages in a table, which apps read by RPC."""

from collections.abc import Sequence

from services.pacer.messages import Message, Outcome, Result
from services.pacer.store.inbox import InboxStore


class InboxAdapter:
    """Puts messages into the pacer's own table; the delivery id is the primary key."""

    name = "inbox"

    def __init__(self, store: InboxStore) -> None:
        self._store = store

    async def deliver(self, messages: Sequence[Message]) -> list[Result]:
        """Insert the batch in one transaction. See Adapter."""
        await self._store.add(messages)
        return [Result(message.delivery_id, Outcome.DELIVERED) for message in messages]
