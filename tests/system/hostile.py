"""Hostile requests: a valid message, changed in one field at a time.

The fields are found by walking the message's descriptor, into nested messages, lists and maps, so
that a new field is met without a change here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

MANY = 10_001
LONG, LONGEST = 10_000, 1_000_000
Find = Callable[[Any], Any]
Fill = Callable[[Message], None]


@dataclass(frozen=True)
class Change:
    """One field made hostile: its path, what it is now, and how a copy of the seed gets there."""

    path: str
    value: str
    apply: Callable[[Any], None]


def changes(seed: Message, fill: Fill) -> Iterator[Change]:
    """Every single-field change of a filled message; `fill` fills what a oneof leaves out."""
    yield from _of_message(seed, "", lambda root: root, fill)


def _of_message(example: Message, path: str, find: Find, fill: Fill) -> Iterator[Change]:
    for field in example.DESCRIPTOR.fields:
        place = f"{path}.{field.name}" if path else field.name
        if is_map(field):
            yield from _of_map(example, field, place, find, fill)
        elif field.is_repeated:
            yield from _of_list(example, field, place, find, fill)
        elif field.message_type is None:
            for name, value in hostile(field):
                yield Change(place, name, _setter(find, field.name, value))
        else:
            yield Change(place, "unset", lambda root, f=field: find(root).ClearField(f.name))
            yield from _of_member(example, field, place, find, fill)
    for choice in example.DESCRIPTOR.oneofs:
        yield Change(
            f"{path}.<{choice.name}>",
            "none set",
            lambda root, c=choice: find(root).ClearField(c.name),
        )


def _of_member(
    example: Message, field: FieldDescriptor, place: str, find: Find, fill: Fill
) -> Iterator[Change]:
    member = getattr(example, field.name)
    if not example.HasField(field.name):
        member = type(member)()
        fill(member)

    def found(root: Any) -> Any:
        parent = find(root)
        if not parent.HasField(field.name):
            getattr(parent, field.name).CopyFrom(member)
        return getattr(parent, field.name)

    yield from _of_nested(member, place, found, fill)


def _of_nested(example: Message, place: str, find: Find, fill: Fill) -> Iterator[Change]:
    moments = MOMENTS.get(example.DESCRIPTOR.full_name)
    for name, value in (moments or {"empty": type(example)()}).items():
        yield Change(place, name, lambda root, v=value: _become(find(root), v))
    if moments is None:
        yield from _of_message(example, place, find, fill)


def _of_list(
    example: Message, field: FieldDescriptor, place: str, find: Find, fill: Fill
) -> Iterator[Change]:
    def items(root: Any) -> Any:
        return getattr(find(root), field.name)

    def repeat(root: Any) -> None:
        items(root).extend([items(root)[0]] * (MANY - len(items(root))))

    yield Change(place, "no elements", lambda root: find(root).ClearField(field.name))
    if not getattr(example, field.name):
        return
    yield Change(place, f"{MANY:,} elements", repeat)
    if different := _different(field):
        yield Change(
            place, f"{MANY:,} different elements", lambda root: items(root).extend(different)
        )
    if field.message_type is not None:
        first = getattr(example, field.name)[0]
        yield from _of_nested(first, f"{place}[0]", lambda root: items(root)[0], fill)
        return
    for name, value in hostile(field):
        yield Change(f"{place}[0]", name, lambda root, v=value: items(root).__setitem__(0, v))


def _of_map(
    example: Message, field: FieldDescriptor, place: str, find: Find, fill: Fill
) -> Iterator[Change]:
    key_field, value_field = field.message_type.fields
    filled = dict(getattr(example, field.name))
    if not filled:
        return
    key, value = next(iter(filled.items()))

    def entries(root: Any) -> Any:
        return getattr(find(root), field.name)

    def put(root: Any, key: Any) -> None:
        if value_field.message_type is None:
            entries(root)[key] = value
        else:
            entries(root)[key].CopyFrom(value)

    def put_many(root: Any) -> None:
        for number in range(MANY):
            put(root, f"k{number}")

    yield Change(place, "no entries", lambda root: find(root).ClearField(field.name))
    yield Change(place, f"{MANY:,} entries", put_many)
    for name, hostile_key in hostile(key_field):
        yield Change(f"key of {place}", name, lambda root, k=hostile_key: put(root, k))
    if value_field.message_type is not None:
        yield from _of_nested(value, f"{place}[{key!r}]", lambda root: entries(root)[key], fill)
        return
    for name, hostile_value in hostile(value_field):
        yield Change(
            f"{place}[{key!r}]", name, lambda root, v=hostile_value: entries(root).update({key: v})
        )


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map, which reflection shows as a list of entries."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _setter(find: Find, name: str, value: Any) -> Callable[[Any], None]:
    return lambda root: setattr(find(root), name, value)


def _become(message: Any, value: Message) -> None:
    message.CopyFrom(value)
    message.SetInParent()


def hostile(field: FieldDescriptor) -> Iterator[tuple[str, Any]]:
    """Hostile values of a scalar, with names for people."""
    if field.type == field.TYPE_STRING:
        yield from STRINGS.items()
        if field.name in ("page_token", "cursor"):
            yield from TOKENS.items()
        elif field.name.endswith("_id") or field.name in ("day", "time_zone"):
            yield from NAMES.items()
    elif field.type == field.TYPE_ENUM:
        numbers = sorted(field.enum_type.values_by_number)
        for number in (0, *numbers[1:], numbers[-1] + 1, 2**31 - 1, -1):
            yield str(number), number
    else:
        yield from ((repr(value)[:40], value) for value in SCALARS[field.type])


def _different(field: FieldDescriptor) -> list[Any]:
    if field.cpp_type in (field.CPPTYPE_STRING, field.CPPTYPE_MESSAGE):
        return [f"x{n}" for n in range(MANY)] if field.type == field.TYPE_STRING else []
    return [] if field.type == field.TYPE_BOOL else list(range(MANY))


def _token(position: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


STRINGS = {
    "empty": "",
    "NUL inside": "a\0b",
    "control characters": "\x01\x1b[2J\r\n\x7f\x85",
    f"{LONG:,} characters": "x" * LONG,
    f"{LONGEST:,} characters": "x" * LONGEST,
    "both directions": "\u202eolleh\u2066 שלום \u200f" + "e\u0301" + "\u0301" * 60,
    "emoji and noncharacters": "👩‍👩‍👧‍👦🏳️‍🌈\ufeff\ufffe\U0010ffff",
    "Liquid": "{{ 1 | times: 1e9 }}{% for i in (1..100000000) %}x{% endfor %}",
    "broken Liquid": "{% if {{ x",
    "SQL and formats": "'; DROP TABLE decision; -- %s %(x)s {0.__class__} :name $1",
}
NAMES = {
    "day 0": "00000000.x",
    "the first day": "00010101.00",
    "the last day": "99991231.00",
    "no day of the calendar": "2026-02-30",
    "the last date": "9999-12-31",
    "path": "../../../../etc/passwd",
    "device": "/dev/zero",
    "only a prefix": "event:",
    "a star": "*",
}
TOKENS = {
    "token: no JSON": "!!!!",
    "token: not ASCII": "ä==",
    "token: deep": base64.urlsafe_b64encode(b"[" * 700).decode(),
    **{
        f"token: {position}": _token(position)
        for position in (
            [], None, {}, 7, "x", ["x"], [""], ["\0"], ["\ud800"], [0], [-1], [2**63 - 1], [2**64],
            [True], [1.5], ["x", "y"], ["0001-01-01T00:00:00+14:00", "x"],
            ["9999-12-31T23:59:59.999999-14:00", "x"], ["2026-01-05T00:00:00", "x"],
            ["0001-01-01T00:00:00+00:00", ""], ["x", "y", "z"],
            ["user-00", "2026-01-05T00:00:00+00:00", "x"],
            ["x", "y", "nan", "z"], ["x", "y", "0x1p99999", "z"],
        )
    },
    "cursor: zero": "0:0",
    "cursor: largest": f"{2**64 - 1}:{2**63 - 1}",
    "cursor: too large": f"{2**64}:{2**63}",
    "cursor: huge": "9" * 500 + ":" + "9" * 500,
    "cursor: negative": "-1:-1",
    "cursor: other digits": "１:２",
    "cursor: half": ":",
    "number": "7",
    "large number": "9" * 30,
    "other digits": "٣",
}  # fmt: skip


def _integers(bits: int, *, signed: bool) -> list[int]:
    top = 2 ** (bits - 1) if signed else 2**bits
    return [-top, -1, 0, 1, 7, top - 1] if signed else [0, 1, 7, top - 1]


_FLOATS = [float("nan"), float("inf"), -float("inf"), 1e308, -1e308, -0.0, 5e-324, 1e-40, -1.0, 2.0]
F = FieldDescriptor
SCALARS: dict[int, list[Any]] = {
    F.TYPE_BOOL: [True, False],
    F.TYPE_BYTES: [b"", b"\xff" * 2**20],
    F.TYPE_DOUBLE: _FLOATS,
    F.TYPE_FLOAT: [x for x in _FLOATS if abs(x) != 1e308] + [3e38, -3e38],
    **dict.fromkeys((F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32), _integers(32, signed=True)),
    **dict.fromkeys((F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64), _integers(64, signed=True)),
    **dict.fromkeys((F.TYPE_UINT32, F.TYPE_FIXED32), _integers(32, signed=False)),
    **dict.fromkeys((F.TYPE_UINT64, F.TYPE_FIXED64), _integers(64, signed=False)),
}
YEAR_1, YEAR_9999 = -62_135_596_800, 253_402_300_799
MOMENTS: dict[str, dict[str, Message]] = {
    "google.protobuf.Timestamp": {
        "the epoch": Timestamp(),
        "year 1": Timestamp(seconds=YEAR_1),
        "before year 1": Timestamp(seconds=YEAR_1 - 1),
        "year 1900": Timestamp(seconds=-2_208_988_800),
        "year 2100": Timestamp(seconds=4_102_444_800),
        "year 9999": Timestamp(seconds=YEAR_9999, nanos=999_999_999),
        "after year 9999": Timestamp(seconds=YEAR_9999 + 1),
        "least seconds": Timestamp(seconds=-(2**63)),
        "most seconds": Timestamp(seconds=2**63 - 1),
        "negative nanos": Timestamp(seconds=1_767_614_400, nanos=-1),
        "too many nanos": Timestamp(seconds=1_767_614_400, nanos=1_000_000_000),
        "most nanos": Timestamp(seconds=1_767_614_400, nanos=2**31 - 1),
    },
    "google.protobuf.Duration": {
        "zero": Duration(),
        "negative": Duration(seconds=-1),
        "a nanosecond": Duration(nanos=1),
        "longest": Duration(seconds=315_576_000_000),
        "too long": Duration(seconds=315_576_000_001),
        "most seconds": Duration(seconds=2**63 - 1),
        "least seconds": Duration(seconds=-(2**63)),
        "mixed signs": Duration(seconds=60, nanos=-1),
        "too many nanos": Duration(seconds=60, nanos=2**31 - 1),
    },
}
