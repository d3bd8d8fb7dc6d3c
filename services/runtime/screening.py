"""A quick look at many messages of one type: whether all of them obey their rules for certain.

Protovalidate evaluates every rule of every message for itself, which costs more than all else that
is done with a small message. Here the same rules, read from the same proto, are checked field by
field over all messages. A type with a rule that isn't known here is left to protovalidate.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import cache
from itertools import chain
from operator import attrgetter, itemgetter, methodcaller
from typing import Any, NamedTuple

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Test = Callable[[Iterable[Any]], bool]
"""Of a field's values in all messages."""


class Check(NamedTuple):
    """What a rule asks of a field's values in all messages."""

    test: Test
    safe_size: int = 0
    """Messages of at most so many bytes can't break the rule."""


_WITHOUT_RULES = {"google.protobuf.Timestamp"}
_CLASS = r"\[(?:[^\[\]\\]|\\x[0-9a-f]{2})+\]"
_CLASSES = re.compile(rf"\^((?:{_CLASS}[*+?]?)+)\$")
"""Patterns that mean the same to Python and to RE2: character classes, one after the other."""
_ONE_CLASS = re.compile(rf"\^({_CLASS}\*)\$")
"""Among them those that any texts fit exactly when they fit joined together."""
_ENDLESS = 2**64
_size = methodcaller("ByteSize")


class _UnknownRuleError(Exception):
    """Only protovalidate can check this."""


def all_valid(messages: Sequence[Message]) -> bool:
    """Whether all messages, which are of one type, are valid for certain; False says nothing."""
    if not messages:
        return True
    checks = _checks(messages[0].DESCRIPTOR)
    if checks is None:
        return False
    size = max(map(_size, messages))
    return all(check.test(map(read, messages)) for read, check in checks if size > check.safe_size)


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
        yield from _inside(list, _value_checks(key, rules.map.keys))
        yield from _inside(_map_values, _value_checks(value, rules.map.values))
    elif field.is_repeated:
        _require_only(rules, {"repeated"})
        _require_only(rules.repeated, {"min_items", "max_items", "items"})
        yield _sizes(rules.repeated.min_items, rules.repeated.max_items or _ENDLESS)
        yield from _inside(itemgetter(slice(None)), _value_checks(field, rules.repeated.items))
    elif field.message_type is not None or not field.has_presence:
        yield from _value_checks(field, rules)
    else:
        raise _UnknownRuleError  # rules of what is not set don't apply


def _value_checks(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Iterator[Check]:
    """Checks of single values of a field or inside it."""
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


def _inside(values: Callable[[Any], Iterable[Any]], checks: Iterable[Check]) -> Iterator[Check]:
    """`checks` for the values in containers; `values` takes them out as lists, which is several
    times faster than to iterate over what protobuf has."""
    for test, safe_size in checks:

        def each(column: Iterable[Any], test: Test = test) -> bool:
            return test(chain.from_iterable(map(values, filter(None, column))))

        yield Check(each, safe_size)


def _map_values(container: Mapping[Any, Any]) -> list[Any]:
    return [container[key] for key in container]


def _sizes(least: int, most: int) -> Check:
    def test(column: Iterable[Sized]) -> bool:
        sizes = set(map(len, column))
        return not sizes or (least <= min(sizes) and max(sizes) <= most)

    return Check(test)


def _texts(rules: validate_pb2.StringRules) -> Check:
    _require_only(rules, {"min_len", "max_len", "pattern"})
    most = rules.max_len if rules.HasField("max_len") else _ENDLESS
    fits_length = _sizes(rules.min_len, most).test
    if not rules.HasField("pattern"):
        return Check(fits_length, 0 if rules.min_len else most)
    fits_pattern = _pattern(rules.pattern)

    def test(column: Iterable[str]) -> bool:
        texts = list(column)
        return fits_length(texts) and fits_pattern(texts)

    return Check(test)


def _pattern(pattern: str) -> Callable[[Sequence[str]], bool]:
    if found := _ONE_CLASS.fullmatch(pattern):
        joined_fits = re.compile(found[1]).fullmatch
        return lambda texts: joined_fits("".join(texts)) is not None
    if found := _CLASSES.fullmatch(pattern):
        fits = re.compile(found[1]).fullmatch
        return lambda texts: all(map(fits, set(texts)))
    raise _UnknownRuleError


def _numbers(rules: validate_pb2.DoubleRules | validate_pb2.FloatRules) -> Check:
    _require_only(rules, {"gte", "lte"})
    least = rules.gte if rules.HasField("gte") else float("-inf")
    most = rules.lte if rules.HasField("lte") else float("inf")
    return Check(lambda column: all(least <= value <= most for value in column))


def _require_only(rules: Message, known: set[str]) -> None:
    if any(field.name not in known for field, _ in rules.ListFields()):
        raise _UnknownRuleError
