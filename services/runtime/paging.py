"""Page sizes and page tokens of list calls (AIP-158)."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from services.runtime.errors import FieldError, InvalidArgument

DEFAULT_SIZE = 100


def page_size(asked: int) -> int:
    """The size to use: 0 means the default."""
    return asked or DEFAULT_SIZE


def encode(position: Sequence[str | int]) -> str:
    """An opaque token for the position after the last row of a page."""
    content = json.dumps(list(position), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decode(token: str, kinds: Sequence[type[str] | type[int]]) -> tuple[str | int, ...] | None:
    """The position in a token, of these types; None for an empty one. Raises InvalidArgument."""
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        position = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
    except ValueError:
        position = None
    if (
        not isinstance(position, list)
        or len(position) != len(kinds)
        or any(type(part) is not kind for part, kind in zip(position, kinds, strict=True))
        or not all(map(_storable, position))
    ):
        raise _wrong()
    return tuple(position)


def read_moment(part: str | int) -> datetime:
    """The aware time that stands in a token in ISO form. Raises InvalidArgument."""
    try:
        moment = datetime.fromisoformat(str(part))
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _wrong()


def _wrong() -> InvalidArgument:
    problem = "is not a next_page_token of this call"
    return InvalidArgument(f"page_token {problem}", fields=[FieldError("page_token", problem)])


def _storable(part: str | int) -> bool:
    """Whether Postgres can hold it; a token is made by anyone."""
    if isinstance(part, int):
        return -(2**63) <= part < 2**63
    return not any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in part)
