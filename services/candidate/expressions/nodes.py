"""What is computed: a graph in which equal parts are one node."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from services.candidate.expressions.schema import AttributeType
from services.candidate.expressions.syntax import Macro, Plain
from services.candidate.expressions.vectors import Vector

Kernel = Callable[..., Vector]


@dataclass(frozen=True, slots=True)
class Variable:
    """A macro's variable: it walks through the elements of a list attribute, or the keys of a map
    attribute."""

    depth: int
    """How many such variables enclose it."""
    collection: str
    """The attribute."""


Source = str | Variable
"""An attribute's name or a variable: something whose values differ from row to row."""


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A part of the expression. Nodes are equal only if they are the same."""

    type: AttributeType
    free: frozenset[Source]
    """What its values depend on, beside `now`."""


@dataclass(frozen=True, eq=False, slots=True)
class Constant(Node):
    """A literal; times and spans of time in microseconds."""

    value: Plain


@dataclass(frozen=True, eq=False, slots=True)
class Now(Node):
    """The time of the evaluation."""


@dataclass(frozen=True, eq=False, slots=True)
class Attribute(Node):
    """An attribute that is neither a list nor a map; an error where it is missing."""

    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Presence(Node):
    """Whether a row has the attribute."""

    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Length(Node):
    """Number of elements of a list or map attribute."""

    collection: str


@dataclass(frozen=True, eq=False, slots=True)
class ElementAt(Node):
    """The list attribute's element at a position from 0; an error outside the list."""

    collection: str
    position: Node


@dataclass(frozen=True, eq=False, slots=True)
class Element(Node):
    """A variable's text."""

    variable: Variable


@dataclass(frozen=True, eq=False, slots=True)
class Entry(Node):
    """The number that belongs to the key at which the variable of a map stands."""

    variable: Variable


@dataclass(frozen=True, eq=False, slots=True)
class FoundEntry(Node):
    """The number of the one key for which the condition is true; an error if there is none."""

    variable: Variable
    condition: Node


@dataclass(frozen=True, eq=False, slots=True)
class Quantifier(Node):
    """For how many elements the condition is true: one at least, all, or exactly one."""

    macro: Macro
    variable: Variable
    condition: Node


@dataclass(frozen=True, eq=False, slots=True)
class Call(Node):
    """A function of other nodes."""

    kernel: Kernel
    parameter: str | tuple[str, str] | None
    """Something fixed that the kernel takes first, e.g. a pattern."""
    arguments: tuple[Node, ...]


N = TypeVar("N", bound=Node)


class Nodes:
    """Makes nodes; what is asked for twice is made once."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Node] = {}

    def constant(self, kind: AttributeType, value: Plain) -> Constant:
        return self._make(Constant, kind, frozenset(), value, key=repr(value))

    def now(self) -> Now:
        return self._make(Now, AttributeType.TIMESTAMP, frozenset())

    def attribute(self, kind: AttributeType, name: str) -> Attribute:
        return self._make(Attribute, kind, frozenset([name]), name)

    def presence(self, name: str) -> Presence:
        return self._make(Presence, AttributeType.BOOL, frozenset([name]), name)

    def length(self, collection: str) -> Length:
        return self._make(Length, AttributeType.INT, frozenset([collection]), collection)

    def element_at(self, collection: str, position: Node) -> ElementAt:
        free: frozenset[Source] = position.free | {collection}
        return self._make(ElementAt, AttributeType.STRING, free, collection, position)

    def element(self, variable: Variable) -> Element:
        return self._make(Element, AttributeType.STRING, frozenset([variable]), variable)

    def entry(self, variable: Variable) -> Entry:
        sources: tuple[Source, Source] = (variable, variable.collection)
        return self._make(Entry, AttributeType.DOUBLE, frozenset(sources), variable)

    def found_entry(self, variable: Variable, condition: Node) -> FoundEntry:
        free = _outside(variable, condition)
        return self._make(FoundEntry, AttributeType.DOUBLE, free, variable, condition)

    def quantifier(self, macro: Macro, variable: Variable, condition: Node) -> Quantifier:
        free = _outside(variable, condition)
        return self._make(Quantifier, AttributeType.BOOL, free, macro, variable, condition)

    def call(
        self,
        kind: AttributeType,
        kernel: Kernel,
        *arguments: Node,
        parameter: str | tuple[str, str] | None = None,
    ) -> Call:
        free: set[Source] = set()
        free.update(*(argument.free for argument in arguments))
        return self._make(Call, kind, frozenset(free), kernel, parameter, arguments)

    def _make(
        self,
        node_type: type[N],
        kind: AttributeType,
        free: frozenset[Source],
        *fields: Any,
        key: object = None,
    ) -> N:
        found = self._made.setdefault(
            (node_type, kind, key, *fields), node_type(kind, free, *fields)
        )
        assert isinstance(found, node_type)
        return found


def _outside(variable: Variable, condition: Node) -> frozenset[Source]:
    """What a loop depends on."""
    return (condition.free - {variable}) | {variable.collection}
