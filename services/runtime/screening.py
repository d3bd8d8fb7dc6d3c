"""A quick look at many messages of one type: whether all of them obey their rules for certain.

Protovalidate evaluates every rule of every message for itself, which costs more than all else that
is done with a small message. Here the same rules, read from the same proto, are checked field by
field over all messages. A type with a rule that isn't known here is left to protovalidate.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import cache
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Check = Callable[[Iterable[Any]], bool]
"""Of a field's values in all messages."""

_WITHOUT_RULES = {"google.protobuf.Timestamp"}
_CLASSES = re.compile(r"\^((?:\[(?:[^\[\]\\]|\\x[0-9a-f]{2})+\][*+?]?)+)\$")
"""Patterns that mean the same to Python and to RE2: character classes, one after the other."""
_ENDLESS = 2**64


class _UnknownRuleError(Exception):
    """Only protovalidate can check this."""


def all_valid(messages: Sequence[Message]) -> bool:
    """Whether all messages, which are of one type, are valid for certain; False says nothing."""
    if not messages:
        return True
    checks = _checks(messages[0].DESCRIPTOR)
    return checks is not None and all(check(map(read, messages)) for read, check in checks)


@cache
def _checks(message: Descriptor) -> Sequence[tuple[Callable[[Message], Any], Check]] | None:
    """What is to be read and checked for all rules of a type; None when there are others."""
    if message.GetOptions().ListFields() or message.oneofs:
        return None
    try:
        return [
            (attrgetter(field.name), check)
            for field in message.fields
            for check in _field_checks(field)
        ]
    except _UnknownRuleError:
        return None


def _field_checks(field: FieldDescriptor) -> Iterator[Check]:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _require_only(rules, {"map"})
        _require_only(rules.map, {"max_pairs", "keys", "values"})
        key, value = field.message_type.fields
        yield _sizes(0, rules.map.max_pairs or _ENDLESS)
        yield _inside(list, _values(key, rules.map.keys))
        yield _inside(_map_values, _values(value, rules.map.values))
    elif field.is_repeated:
        _require_only(rules, {"repeated"})
        _require_only(rules.repeated, {"min_items", "max_items", "items"})
        yield _sizes(rules.repeated.min_items, rules.repeated.max_items or _ENDLESS)
        yield _inside(itemgetter(slice(None)), _values(field, rules.repeated.items))
    elif field.message_type is not None or not field.has_presence:
        if rules.ListFields() or field.message_type is not None:
            yield _values(field, rules)
    else:
        raise _UnknownRuleError  # rules of what is not set don't apply


def _values(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Check:
    """The check of single values of a field or inside it."""
    if field.message_type is not None and field.message_type.full_name not in _WITHOUT_RULES:
        raise _UnknownRuleError
    if not rules.ListFields():
        return lambda _: True
    if field.type == FieldDescriptor.TYPE_STRING:
        _require_only(rules, {"string"})
        return _texts(rules.string)
    _require_only(rules, {"double"})
    return _numbers(rules.double)


def _inside(values: Callable[[Any], Iterable[Any]], check: Check) -> Check:
    """`check` for the values in containers; `values` takes them out as lists, which is several
    times faster than to iterate over what protobuf has."""
    return lambda column: check(chain.from_iterable(map(values, filter(None, column))))


def _map_values(container: Mapping[Any, Any]) -> list[Any]:
    return [container[key] for key in container]


def _sizes(least: int, most: int) -> Check:
    def check(column: Iterable[Sized]) -> bool:
        sizes = set(map(len, column))
        return not sizes or (least <= min(sizes) and max(sizes) <= most)

    return check


def _texts(rules: validate_pb2.StringRules) -> Check:
    _require_only(rules, {"min_len", "max_len", "pattern"})
    length = _sizes(rules.min_len, rules.max_len if rules.HasField("max_len") else _ENDLESS)
    if not rules.HasField("pattern"):
        return length
    fits = _pattern(rules.pattern).fullmatch

    def check(column: Iterable[str]) -> bool:
        texts = set(column)
        return length(texts) and all(map(fits, texts))

    return check


def _pattern(pattern: str) -> re.Pattern[str]:
    found = _CLASSES.fullmatch(pattern)
    if found is None:
        raise _UnknownRuleError
    return re.compile(found[1])


def _numbers(rules: validate_pb2.DoubleRules) -> Check:
    _require_only(rules, {"gte", "lte"})
    least = rules.gte if rules.HasField("gte") else float("-inf")
    most = rules.lte if rules.HasField("lte") else float("inf")
    return lambda column: all(least <= value <= most for value in column)


def _require_only(rules: Message, known: set[str]) -> None:
    if any(field.name not in known for field, _ in rules.ListFields()):
        raise _UnknownRuleError
