"""A quick look at many messages of one type: whether all of them obey their rules for certain.

Protovalidate evaluates every rule of every message for itself, which costs more than all else that
is done with a small message. Here the same rules, read from the same proto, are checked field by
field over all messages. A type with a rule that isn't known here is left to protovalidate.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
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
Check = Callable[["Columns[Any]"], bool]
"""Of all messages, by some of their fields."""


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

    def sizes(self, name: str) -> Sequence[int]:
        """How many values a repeated field or a map has; their values aren't looked at."""
        return [len(getattr(message, name)) for message in self.messages]


_WITHOUT_RULES = {"google.protobuf.Timestamp"}
_CLASS = r"\[(?:[^\[\]\\]|\\x[0-9a-f]{2})+\]"
_CLASSES = re.compile(rf"\^((?:{_CLASS}[*+?]?)+)\$")
"""Patterns that mean the same to Python and to RE2: character classes, one after the other."""
_ONE_CLASS = re.compile(rf"\^({_CLASS}\*)\$")
"""Among them those that any texts fit exactly when they fit joined together."""
_SAME_SIZE = re.compile(r"this\.(\w+)\.size\(\) == this\.(\w+)\.size\(\)")
"""A rule over two fields, in CEL."""
_ENDLESS = 2**64
_as_list = itemgetter(slice(None))
"""Of what is repeated: several times faster to go through."""


class _UnknownRuleError(Exception):
    """Only protovalidate can check this."""


def all_valid(columns: Columns[Any]) -> bool:
    """Whether all messages are valid for certain; False says nothing."""
    checks = _checks(columns.messages[0].DESCRIPTOR)
    return checks is not None and all(fits(columns) for fits in checks)


@cache
def _lists(message: Descriptor) -> Set[str]:
    """The repeated fields of a type."""
    return {field.name for field in message.fields if field.is_repeated and not _is_map(field)}


@cache
def _checks(message: Descriptor) -> Sequence[Check] | None:
    """What to check, for all rules of a type; None when there are others."""
    options = message.GetOptions()
    rules = options.Extensions[validate_pb2.message]
    if len(options.ListFields()) > bool(rules.ListFields()) or message.oneofs:
        return None
    try:
        _require_only(rules, {"cel"})
        found = [_same_sizes(rule.expression) for rule in rules.cel]
        return found + [check for field in message.fields for check in _field_checks(field)]
    except _UnknownRuleError:
        return None


def _same_sizes(expression: str) -> Check:
    rule = _SAME_SIZE.fullmatch(expression)
    if rule is None:
        raise _UnknownRuleError
    one, other = rule.groups()
    return lambda columns: columns.sizes(one) == columns.sizes(other)


def _field_checks(field: FieldDescriptor) -> Iterator[Check]:
    rules, name = field.GetOptions().Extensions[validate_pb2.field], field.name
    if field.message_type is not None and _is_map(field):
        _require_only(rules, {"map"})
        _require_only(rules.map, {"max_pairs", "keys", "values"})
        key, value = field.message_type.fields
        yield _of_sizes(name, 0, rules.map.max_pairs)
        tests = [*_inside(chain.from_iterable, _value_tests(key, rules.map.keys)),
                 *_inside(_map_values, _value_tests(value, rules.map.values))]  # fmt: skip
    elif field.is_repeated:
        _require_only(rules, {"repeated"})
        _require_only(rules.repeated, {"min_items", "max_items", "items"})
        yield _of_sizes(name, rules.repeated.min_items, rules.repeated.max_items)
        tests = list(_inside(chain.from_iterable, _item_tests(field, rules.repeated.items)))
    elif field.message_type is not None or not field.has_presence:
        tests = list(_value_tests(field, rules))
    else:
        raise _UnknownRuleError  # rules of what is not set don't apply
    for test in tests:
        yield partial(_fits, name, test)


def _fits(name: str, test: Test, columns: Columns[Any]) -> bool:
    return test(columns[name])


def _of_sizes(name: str, least: int, most: int) -> Check:
    fits = _between(least, most or _ENDLESS)
    return lambda columns: fits(columns.sizes(name))


def _item_tests(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Iterable[Test]:
    """Of the items of a repeated field: none where they are told to be left alone, which handlers
    do that look at each item for itself."""
    item = field.message_type
    if rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return []
    if item is None or item.full_name in _WITHOUT_RULES:
        return _value_tests(field, rules)
    _require_only(rules, set())
    if _checks(item) is None:
        raise _UnknownRuleError
    return [lambda items: not items or all_valid(Columns(items))]


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


def _between(least: int, most: int) -> Callable[[Sequence[int]], bool]:
    return lambda sizes: not sizes or (least <= min(sizes) and max(sizes) <= most)


def _texts(rules: validate_pb2.StringRules) -> Test:
    _require_only(rules, {"min_len", "max_len", "pattern"})
    most = rules.max_len if rules.HasField("max_len") else _ENDLESS
    fits_length = _between(rules.min_len, most)
    if not rules.HasField("pattern"):
        return lambda texts: fits_length(list(map(len, texts)))
    fits_pattern = _pattern(rules.pattern)
    return lambda texts: fits_length(list(map(len, texts))) and fits_pattern(texts)


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
