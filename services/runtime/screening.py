"""A quick look at many messages of one type: whether all of them obey their rules for certain.

Protovalidate evaluates every rule of every message for itself, which costs more than all else that
is done with a small message. Here the same rules, read from the same proto, are checked field by
field over all messages. A type with a rule that isn't known here is left to protovalidate.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, Sized
from functools import cache, partial
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Generic, TypeVar

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Offered = TypeVar("Offered", bound=Message)
Test = Callable[[Sequence[Any]], bool]
"""Of a field's values in all messages."""


class Columns(Generic[Offered]):
    """The fields of messages of one type, of which there is at least one. A field is read of all of
    them, once: to make a value of what protobuf holds takes as long as to check it."""

    def __init__(self, messages: Sequence[Offered]) -> None:
        self.messages = messages
        self._read: dict[str, Sequence[Any]] = {}

    def __getitem__(self, name: str) -> Sequence[Any]:
        """The values of a field; lists of what is repeated, and maps as protobuf has them."""
        found = self._read.get(name)
        if found is None:
            found = list(map(attrgetter(name), self.messages))
            if name in _lists(self.messages[0].DESCRIPTOR):
                found = list(map(_as_list, found))
            self._read[name] = found
        return found


_WITHOUT_RULES = {"google.protobuf.Timestamp"}
_CLASS = r"\[(?:[^\[\]\\]|\\x[0-9a-f]{2})+\]"
_CLASSES = re.compile(rf"\^((?:{_CLASS}[*+?]?)+)\$")
"""Patterns that mean the same to Python and to RE2: character classes, one after the other."""
_ONE_CLASS = re.compile(rf"\^({_CLASS}\*)\$")
"""Among them those that any texts fit exactly when they fit joined together."""
_ENDLESS = 2**64
_as_list = itemgetter(slice(None))
"""Of what is repeated: several times faster to go through."""


class _UnknownRuleError(Exception):
    """Only protovalidate can check this."""


def all_valid(columns: Columns[Any]) -> bool:
    """Whether all messages are valid for certain; False says nothing."""
    checks = _checks(columns.messages[0].DESCRIPTOR)
    if checks is None:
        return False
    return all(fits(columns[name]) for name, fits in checks)


@cache
def _lists(message: Descriptor) -> Set[str]:
    """The repeated fields of a type."""
    return {field.name for field in message.fields if field.is_repeated and not _is_map(field)}


@cache
def _checks(message: Descriptor) -> Sequence[tuple[str, Test]] | None:
    """The fields to check, for all rules of a type; None when there are others."""
    if message.GetOptions().ListFields() or message.oneofs:
        return None
    try:
        return [(field.name, test) for field in message.fields for test in _field_tests(field)]
    except _UnknownRuleError:
        return None


def _field_tests(field: FieldDescriptor) -> Iterator[Test]:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if field.message_type is not None and _is_map(field):
        _require_only(rules, {"map"})
        _require_only(rules.map, {"max_pairs", "keys", "values"})
        key, value = field.message_type.fields
        yield _sizes(0, rules.map.max_pairs or _ENDLESS)
        yield from _inside(chain.from_iterable, _value_tests(key, rules.map.keys))
        yield from _inside(_map_values, _value_tests(value, rules.map.values))
    elif field.is_repeated:
        _require_only(rules, {"repeated"})
        _require_only(rules.repeated, {"min_items", "max_items", "items"})
        yield _sizes(rules.repeated.min_items, rules.repeated.max_items or _ENDLESS)
        yield from _inside(chain.from_iterable, _value_tests(field, rules.repeated.items))
    elif field.message_type is not None or not field.has_presence:
        yield from _value_tests(field, rules)
    else:
        raise _UnknownRuleError  # rules of what is not set don't apply


def _is_map(field: FieldDescriptor) -> bool:
    entry = field.message_type
    return entry is not None and entry.GetOptions().map_entry


def _value_tests(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Iterator[Test]:
    """Of single values of a field or inside it."""
    if field.message_type is not None and field.message_type.full_name not in _WITHOUT_RULES:
        raise _UnknownRuleError
    if not rules.ListFields():
        return
    if field.type == FieldDescriptor.TYPE_STRING:
        _require_only(rules, {"string"})
        yield _texts(rules.string)
    elif field.type == FieldDescriptor.TYPE_FLOAT:
        _require_only(rules, {"float"})
        yield _numbers(rules.float)
    else:
        _require_only(rules, {"double"})
        yield _numbers(rules.double)


def _inside(
    values: Callable[[Sequence[Any]], Iterable[Any]], tests: Iterable[Test]
) -> Iterator[Test]:
    """`tests` for the values in containers, which `values` takes out of all of them."""
    for test in tests:
        yield partial(_fits_inside, values, test)


def _fits_inside(
    values: Callable[[Sequence[Any]], Iterable[Any]], test: Test, column: Sequence[Any]
) -> bool:
    return test(list(values(column)))


def _map_values(column: Sequence[Mapping[Any, Any]]) -> list[Any]:
    return [container[key] for container in column for key in container]


def _sizes(least: int, most: int) -> Test:
    def test(column: Sequence[Sized]) -> bool:
        sizes = set(map(len, column))
        return not sizes or (least <= min(sizes) and max(sizes) <= most)

    return test


def _texts(rules: validate_pb2.StringRules) -> Test:
    _require_only(rules, {"min_len", "max_len", "pattern"})
    most = rules.max_len if rules.HasField("max_len") else _ENDLESS
    fits_length = _sizes(rules.min_len, most)
    if not rules.HasField("pattern"):
        return fits_length
    fits_pattern = _pattern(rules.pattern)
    return lambda texts: fits_length(texts) and fits_pattern(texts)


def _pattern(pattern: str) -> Callable[[Sequence[str]], bool]:
    if found := _ONE_CLASS.fullmatch(pattern):
        joined_fits = re.compile(found[1]).fullmatch
        return lambda texts: joined_fits("".join(texts)) is not None
    if found := _CLASSES.fullmatch(pattern):
        fits = re.compile(found[1]).fullmatch
        return lambda texts: all(map(fits, set(texts)))
    raise _UnknownRuleError


def _numbers(rules: validate_pb2.DoubleRules | validate_pb2.FloatRules) -> Test:
    _require_only(rules, {"gte", "lte"})
    least = rules.gte if rules.HasField("gte") else float("-inf")
    most = rules.lte if rules.HasField("lte") else float("inf")
    return lambda column: all(least <= value <= most for value in column)


def _require_only(rules: Message, known: set[str]) -> None:
    if any(field.name not in known for field, _ in rules.ListFields()):
        raise _UnknownRuleError
