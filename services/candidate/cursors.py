"""Cursors over committed order: opaque to callers, checked when they come back."""

from dataclasses import dataclass

from services.runtime.errors import FieldError, InvalidArgument

LARGEST_XID = 2**64 - 1
LARGEST_SEQ = 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in committed order: the writing transaction, and the number within it."""

    xid: int = 0
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.xid}:{self.seq}"


def read_cursor(text: str) -> Position:
    """The position of a cursor; empty is the start. Raises InvalidArgument."""
    if not text:
        return Position()
    xid, colon, seq = text.partition(":")
    if colon and _is_number(xid, LARGEST_XID) and _is_number(seq, LARGEST_SEQ):
        return Position(int(xid), int(seq))
    raise InvalidArgument(
        "cursor is not one that this service gave",
        reason="INVALID_CURSOR",
        fields=[FieldError("cursor", "must be empty or the cursor of an earlier answer")],
    )


def _is_number(text: str, largest: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= largest
