"""Page sizes and page tokens of list calls (AIP-158)."""

import base64
import json
from collections.abc import Sequence

from services.runtime.errors import FieldError, InvalidArgument

DEFAULT_SIZE = 100


def page_size(asked: int) -> int:
    """The size to use: 0 means the default."""
    return asked or DEFAULT_SIZE


def encode(position: Sequence[str | int]) -> str:
    """An opaque token for the position after the last row of a page."""
    return base64.urlsafe_b64encode(json.dumps(list(position)).encode()).decode().rstrip("=")


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
        or any(isinstance(part, str) and not _storable(part) for part in position)
    ):
        problem = "is not a next_page_token of this call"
        raise InvalidArgument(f"page_token {problem}", fields=[FieldError("page_token", problem)])
    return tuple(position)


def _storable(text: str) -> bool:
    """Whether Postgres can hold the text; a token is made by anyone."""
    return "\x00" not in text and text.isprintable()
