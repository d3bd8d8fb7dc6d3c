"""The seam between the pacer and the channels: what an adapter is given and answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery with its words. `delivery_id` is the idempotency key and never changes."""

    delivery_id: str
    decision_id: str
    user_id: str
    event_id: str
    event_type: str
    item_ids: tuple[str, ...]
    channel: str
    """`push`, `email` or `in_app`."""
    address: str
    """Address or token. Empty for a preview, which goes to the adapter's own folder or inbox."""
    locale: str
    title: str
    body: str
    variant_id: str
    deliver_time: datetime
    """When it is handed over (aware UTC)."""
    preview: bool = False


class Outcome(StrEnum):
    """What a channel said; all but DELIVERED are failures, told apart by what helps."""

    DELIVERED = "delivered"
    TEMPORARY = "temporary"
    """The channel failed; it may work later."""
    THROTTLED = "throttled"
    """The channel asked to slow down."""
    REFUSED = "refused"
    """The channel will never take this message."""
    UNREACHABLE = "unreachable"
    """The address doesn't work."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one message; `error` is empty when it was delivered."""

    delivery_id: str
    outcome: Outcome
    error: str = ""


class Adapter(Protocol):
    """Carries messages of one or more channels out of the system."""

    name: str

    async def deliver(self, messages: Sequence[Message]) -> list[Result]:
        """Hand over a batch; one result per message, in order.

        A message whose delivery id was handed over before is DELIVERED again without effect, also
        within one batch. When the call returns, what is DELIVERED survives a crash. An exception
        means TEMPORARY for the whole batch.
        """
