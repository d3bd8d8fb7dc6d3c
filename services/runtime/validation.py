"""Checks messages against the protovalidate rules in the protos."""

from collections.abc import Sequence

from google.protobuf.message import Message
from heliograph.type.v1alpha1 import status_pb2
from protovalidate import FieldPathPb, Violation, collect_violations

from services.runtime.errors import FieldError, InvalidArgument
from services.runtime.screening import Columns, all_valid

FULLY_CHECKED = 512
"""Largest message, in bytes, of which all broken rules are told: a list of a million wrong elements
breaks a million rules, which would take the event loop minutes to gather."""
MOST_TOLD = 1000
"""Broken rules of one batch, after which only the first of each further item is told."""


def violations(message: Message, *, only_first: bool = False) -> list[FieldError]:
    """The rules that `message` breaks, by field path; empty when it is valid. Of a large message
    only the first."""
    found = collect_violations(message, fail_fast=True)
    if found and not only_first and message.ByteSize() <= FULLY_CHECKED:
        found = collect_violations(message)
    return [_field_error(violation) for violation in found] if found else []


class ItemRules:
    """Checks the items of one batch. Once MOST_TOLD broken rules were told, only the first of each
    further item is: an item of 512 bytes may break 500 of them, and a batch has many items."""

    def __init__(self, items: Sequence[Message] = ()) -> None:
        """`items`: the batch, where all of it is at hand: one quick look may spare one at each."""
        self._told = 0
        self._all_valid = bool(items) and all_valid(Columns(items))

    def violations(self, item: Message) -> list[FieldError]:
        """The rules that an item breaks; empty when it is valid."""
        if self._all_valid:
            return []
        found = violations(item, only_first=self._told >= MOST_TOLD)
        self._told += len(found)
        return found

    def rejection(self, index: int, item: Message) -> status_pb2.Rejection | None:
        """Why the item at `index` can't be accepted; None when it is valid."""
        fields = self.violations(item)
        return rejection(index, "INVALID_FIELD", _first(fields), fields) if fields else None


def check(message: Message) -> None:
    """Raise InvalidArgument with the wrong fields of `message`, as `violations` tells them."""
    if all_valid(Columns([message])):
        return
    if fields := violations(message):
        more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
        raise InvalidArgument(f"{_first(fields)}{more}", fields=fields)


def rejection(
    index: int, reason: str, message: str, fields: Sequence[FieldError] = ()
) -> status_pb2.Rejection:
    """Why the item at `index` of a batch was not accepted."""
    return status_pb2.Rejection(
        index=index,
        reason=reason,
        message=message,
        fields=[
            status_pb2.FieldViolation(field=field.path, description=field.description)
            for field in fields
        ],
    )


def _first(fields: Sequence[FieldError]) -> str:
    path, description = fields[0].path, fields[0].description
    return f"{path}: {description}" if path else description


def _field_error(violation: Violation) -> FieldError:
    found = violation.proto
    path = "" if found.field is None else _path(found.field)
    if found.for_key:
        path = f"key of {path}"
    return FieldError(path, found.message or found.rule_id)


def _path(path: FieldPathPb) -> str:
    parts: list[str] = []
    for element in path.elements:
        text = element.field_name
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            text += f'["{value}"]' if isinstance(value, str) else f"[{value}]"
        parts.append(text)
    return ".".join(parts)
