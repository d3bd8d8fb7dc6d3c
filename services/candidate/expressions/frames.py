"""Evaluates nodes over many rows at once.

A frame is a set of rows over which nodes are evaluated, each once: the one row of what is the same
for all users, the distinct texts of an attribute, rows of the table, or the elements of a list or
map attribute of those rows (`table_frames`). What depends on a single attribute of texts is
computed for its distinct texts and then handed out to the rows.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.candidate.expressions.columns import (
    Codes,
    CollectionColumn,
    Columns,
    PlainColumn,
    TextColumn,
)
from services.candidate.expressions.nodes import (
    Attribute,
    Call,
    Constant,
    Element,
    Node,
    Now,
    Presence,
    Source,
    Variable,
)
from services.candidate.expressions.schema import AttributeType
from services.candidate.expressions.vectors import Vector

_SMALL_VOCABULARY = 256


class Frame:
    """Evaluates nodes that need no rows: literals, `now`, and functions of them."""

    def __init__(self, now: int) -> None:
        self.now = now
        """Microseconds since 1970."""
        self._values: dict[Node, Vector] = {}

    def value(self, node: Node) -> Vector:
        """The node's values, as many as the frame has rows, or a single one for all."""
        found = self._values.get(node)
        if found is None:
            found = self._values[node] = self._compute(node)
        return found

    def _compute(self, node: Node) -> Vector:
        match node:
            case Constant(value=str() as text):
                return Vector(pa.array([text], pa.large_string()))
            case Constant(value=value):
                return Vector(np.array([value]))
            case Now():
                return Vector(np.array([self.now], np.int64))
            case Call(kernel=kernel, parameter=parameter, arguments=arguments):
                values = [self.value(argument) for argument in arguments]
                return kernel(*values) if parameter is None else kernel(parameter, *values)
            case _:
                raise AssertionError(f"{type(node).__name__} can't be evaluated here")


class VocabularyFrame(Frame):
    """The distinct texts of an attribute and, if it isn't a list or map, one missing text."""

    def __init__(self, once: Frame, column: TextColumn | CollectionColumn) -> None:
        super().__init__(once.now)
        self._once = once
        self.texts = column.vocabulary
        """The texts, by code."""
        self.size = len(column.vocabulary)
        missing = np.arange(self.size) == self.size - 1
        self._missing = missing if isinstance(column, TextColumn) else None

    def _compute(self, node: Node) -> Vector:
        if not node.free:
            return self._once.value(node)
        match node:
            case Attribute() | Element():
                return Vector(self.texts, self._missing)
            case Presence():
                assert self._missing is not None
                return Vector(~self._missing)
            case _:
                return super()._compute(node)


class Scope:
    """What all frames of one evaluation share."""

    def __init__(self, columns: Columns, now: int, size: int) -> None:
        self.columns = columns
        self.once = Frame(now)
        self._largest_vocabulary = max(size, _SMALL_VOCABULARY)
        self._vocabularies: dict[Source, VocabularyFrame] = {}
        self._translations: dict[tuple[Source, Source], Codes] = {}
        self._text_sources: dict[Node, Source | None] = {}

    def vocabulary(self, source: Source) -> VocabularyFrame:
        """The frame of the distinct texts of an attribute or a variable."""
        found = self._vocabularies.get(source)
        if found is None:
            name = source.collection if isinstance(source, Variable) else source
            column = self.columns.columns[name]
            assert not isinstance(column, PlainColumn)
            found = self._vocabularies[source] = VocabularyFrame(self.once, column)
        return found

    def translation(self, source: Source, target: Source) -> Codes:
        """Code of the same text in the target's vocabulary, by code in the source's; -1: none."""
        found = self._translations.get((source, target))
        if found is None:
            own, other = self.vocabulary(source).texts, self.vocabulary(target).texts
            positions: Any = pc.index_in(own, value_set=other)
            found = positions.fill_null(-1).to_numpy()
            self._translations[source, target] = found
        return found

    def text_source(self, node: Node) -> Source | None:
        """What the node alone depends on, if it is texts, fewer distinct ones than rows."""
        if node not in self._text_sources:
            self._text_sources[node] = self._find_text_source(node)
        return self._text_sources[node]

    def are_codes(self, *nodes: Node) -> bool:
        """Whether these are texts of attributes or variables, fewer distinct ones than rows."""
        sources = [text_source_of(node) for node in nodes]
        return all(source is not None and self._is_small(source) for source in sources)

    def _find_text_source(self, node: Node) -> Source | None:
        if len(node.free) != 1:
            return None
        (source,) = node.free
        if isinstance(source, str) and self.columns.types[source] is not AttributeType.STRING:
            return None
        return source if self._is_small(source) else None

    def _is_small(self, source: Source) -> bool:
        return self.vocabulary(source).size <= self._largest_vocabulary


def text_source_of(node: Node) -> Source | None:
    """The attribute or variable that the node is; None if it isn't one, or not one of texts."""
    match node:
        case Attribute(type=AttributeType.STRING, name=name):
            return name
        case Element(variable=variable):
            return variable
        case _:
            return None
