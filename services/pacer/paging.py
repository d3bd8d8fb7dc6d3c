"""Where the lists of one user's slots and messages are read on."""

from datetime import datetime

from services.pacer.store.slots import BEYOND
from services.runtime.errors import FieldError, InvalidArgument
from services.runtime.paging import decode, encode, read_moment

Position = tuple[datetime, str]
"""Time and id of the last row shown; lists are newest first."""


def token(user_id: str, position: Position) -> str:
    """The page token that reads on after `position` in this user's list."""
    return encode([user_id, position[0].isoformat(), position[1]])


def position_of(user_id: str, given: str) -> Position:
    """Where a page token reads on; an empty one from the start. Raises InvalidArgument for one
    that is not of this user's list."""
    decoded = decode(given, [str, str, str])
    if decoded is None:
        return BEYOND, ""
    user, time, key = map(str, decoded)
    if user != user_id:
        raise _wrong()
    return read_moment(time), key


def _wrong() -> InvalidArgument:
    problem = "is not a next_page_token of this user's list"
    return InvalidArgument(f"page_token {problem}", fields=[FieldError("page_token", problem)])
