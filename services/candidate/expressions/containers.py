"""Lists and maps in an expression: attributes and literals, and what can be asked of them.

They have no values of their own in the graph; each question about one becomes a node.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.candidate.expressions import logic
from services.candidate.expressions.nodes import Constant, Element, Node, Nodes, Variable
from services.candidate.expressions.schema import AttributeType
from services.candidate.expressions.syntax import Macro


@dataclass(frozen=True, slots=True)
class Collection:
    """A list or map attribute."""

    name: str
    is_map: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list literal."""

    elements: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A map literal."""

    keys: tuple[Node, ...]
    values: tuple[Node, ...]


Container = Collection | Sequence | Table


class Containers:
    """Makes the nodes that answer questions about lists and maps."""

    def __init__(self, nodes: Nodes) -> None:
        self.nests: set[tuple[str, ...]] = set()
        """The list and map attributes of each nest of loops."""
        self._nodes = nodes
        self._nest: tuple[str, ...] = ()

    @contextmanager
    def loop(self, collection: Collection) -> Iterator[Variable]:
        """A variable that walks through the elements or keys; loops within are nested in it."""
        outer = self._nest
        self._nest = (*outer, collection.name)
        self.nests.add(self._nest)
        yield Variable(len(outer), collection.name)
        self._nest = outer

    def size(self, container: Container) -> Node:
        """`size(container)`."""
        if isinstance(container, Collection):
            return self._nodes.length(container.name)
        parts = _parts(container)
        count = len(container.keys if isinstance(container, Table) else parts)
        return self._requiring(self._nodes.constant(AttributeType.INT, count), *parts)

    def item(self, container: Container, key: Node) -> Node | None:
        """`container[key]`; None for an empty literal, which has no type."""
        match container:
            case Collection(name=name, is_map=False):
                return self._nodes.element_at(name, key)
            case Collection(name=name) if isinstance(key, Element):
                if key.variable.collection == name:
                    return self._nodes.entry(key.variable)
                return self._found(container, key)
            case Collection():
                return self._found(container, key)
            case Sequence(elements=elements):
                numbers = range(len(elements))
                positions = [self._nodes.constant(AttributeType.INT, number) for number in numbers]
                return self._switch(key, positions, elements)
            case Table(keys=keys, values=values):
                return self._switch(key, keys, values)

    def member(self, element: Node, container: Container) -> Node:
        """`element in container`."""
        if isinstance(container, Collection):
            with self.loop(container) as variable:
                condition = self._equal(self._nodes.element(variable), element)
            found = self._nodes.quantifier(Macro.EXISTS, variable, condition)
            return self._requiring(found, element)
        candidates = container.keys if isinstance(container, Table) else container.elements
        if not candidates:
            return self._requiring(self._nodes.constant(AttributeType.BOOL, False), element)
        among = self._nodes.call(AttributeType.BOOL, logic.member, element, *candidates)
        return self._requiring(among, *_parts(container))

    def equal(self, left: Container, right: Container) -> Node | None:
        """`left == right`; None where that isn't supported."""
        match left, right:
            case Collection(name=name, is_map=False), Sequence(elements=elements):
                numbers = range(len(elements))
                keys = [self._nodes.constant(AttributeType.INT, number) for number in numbers]
                pairs = [
                    self._equal(self._nodes.element_at(name, key), element)
                    for key, element in zip(keys, elements, strict=True)
                ]
                count = self._nodes.constant(AttributeType.INT, len(elements))
                same_size = self._equal(self._nodes.length(name), count)
                return self._requiring(self.all_of(same_size, *pairs), *elements)
            case Sequence(), Collection():
                return self.equal(right, left)
            case Sequence(elements=ours), Sequence(elements=theirs):
                if len(ours) != len(theirs):
                    result: Node = self._nodes.constant(AttributeType.BOOL, False)
                else:
                    result = self.all_of(*map(self._equal, ours, theirs))
                return self._requiring(result, *ours, *theirs)
            case _:
                return None

    def all_of(self, *conditions: Node) -> Node:
        """The conjunction of any number of conditions."""
        if not conditions:
            return self._nodes.constant(AttributeType.BOOL, True)
        return self._nodes.call(AttributeType.BOOL, logic.conjunction, *conditions)

    def unrolled(self, macro: Macro, literal: Sequence | Table, conditions: list[Node]) -> Node:
        """The macro over a literal, given the condition for each of its elements."""
        if not conditions:
            result: Node = self._nodes.constant(AttributeType.BOOL, macro is Macro.ALL)
        else:
            result = self._nodes.call(AttributeType.BOOL, _UNROLLED[macro], *conditions)
        return self._requiring(result, *_parts(literal))

    def _found(self, collection: Collection, key: Node) -> Node:
        with self.loop(collection) as variable:
            condition = self._equal(self._nodes.element(variable), key)
        return self._nodes.found_entry(variable, condition)

    def _switch(self, key: Node, keys: Iterable[Node], values: tuple[Node, ...]) -> Node | None:
        if not values:
            return None
        pairs = [part for pair in zip(keys, values, strict=True) for part in pair]
        return self._nodes.call(values[0].type, logic.switch, key, *pairs)

    def _equal(self, left: Node, right: Node) -> Node:
        return self._nodes.call(AttributeType.BOOL, logic.equal, left, right)

    def _requiring(self, result: Node, *others: Node) -> Node:
        """`result`, an error where any of the others is."""
        fallible = [other for other in others if not isinstance(other, Constant)]
        if not fallible:
            return result
        return self._nodes.call(result.type, logic.requiring, result, *fallible)


_UNROLLED = {
    Macro.EXISTS: logic.disjunction,
    Macro.ALL: logic.conjunction,
    Macro.EXISTS_ONE: logic.exactly_one,
}


def _parts(container: Container) -> tuple[Node, ...]:
    """All parts of a literal: if one is an error, the literal is."""
    match container:
        case Sequence(elements=elements):
            return elements
        case Table(keys=keys, values=values):
            return (*keys, *values)
        case _:
            return ()
