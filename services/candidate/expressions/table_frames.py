"""Evaluates nodes over rows of the table, and over the elements of their lists and maps.

What doesn't depend on a macro's variable is computed outside of the macro, once per row.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from services.candidate.expressions import logic
from services.candidate.expressions.columns import Codes, CollectionColumn, TextColumn
from services.candidate.expressions.frames import Frame, Scope, text_source_of
from services.candidate.expressions.nodes import (
    Attribute,
    Call,
    Element,
    ElementAt,
    Entry,
    FoundEntry,
    Length,
    Node,
    Presence,
    Quantifier,
    Source,
    Variable,
)
from services.candidate.expressions.segments import Segments
from services.candidate.expressions.vectors import (
    Index,
    Mask,
    Vector,
    either,
    gather,
    take_texts,
    truth,
)

Rows = slice | Index


class TableFrame(Frame, ABC):
    """Things that each stand in a row of the table."""

    def __init__(self, scope: Scope, size: int) -> None:
        super().__init__(scope.once.now)
        self.scope = scope
        self.size = size
        self._elements: dict[Variable, ElementFrame] = {}

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """The row of each: a slice with a step of 1, or an index."""

    @abstractmethod
    def codes(self, source: Source) -> Codes:
        """Position of each one's text in the vocabulary of `source`."""

    def elements(self, variable: Variable) -> "ElementFrame":
        """The elements of the variable's list or map in these rows."""
        found = self._elements.get(variable)
        if found is None:
            found = self._elements[variable] = ElementFrame(self, variable)
        return found

    def collection(self, name: str) -> CollectionColumn:
        """A list or map attribute's column."""
        column = self.scope.columns.columns[name]
        assert isinstance(column, CollectionColumn)
        return column

    def segments(self, name: str) -> Segments:
        """Where the elements of a list or map attribute stand."""
        offsets, rows = self.collection(name).offsets, self.rows
        if isinstance(rows, slice):
            own = offsets[rows.start : rows.stop + 1]
            return Segments(own[:-1], np.diff(own), own[1:] - own[0], is_contiguous=True)
        starts = offsets[rows]
        lengths = offsets[rows + 1] - starts
        return Segments(starts, lengths, np.cumsum(lengths), is_contiguous=False)

    def _compute(self, node: Node) -> Vector:
        if not node.free:
            return self.scope.once.value(node)
        source = self.scope.text_source(node)
        if source is not None:
            return gather(self.scope.vocabulary(source).value(node), self.codes(source))
        match node:
            case Attribute(name=name):
                return self._attribute(node, name)
            case Presence(name=name):
                missing = self._missing(name)
                return Vector(np.ones(1, np.bool_) if missing is None else ~missing)
            case Length(collection=name):
                return Vector(self.segments(name).lengths, self._missing(name))
            case ElementAt(collection=name, position=position):
                return self._element_at(name, self.value(position))
            case Quantifier(macro=macro, variable=variable, condition=condition):
                elements = self.elements(variable)
                missing = self._missing(variable.collection)
                return elements.segments_within.reduce(macro, elements.value(condition), missing)
            case FoundEntry(variable=variable, condition=condition):
                elements = self.elements(variable)
                return elements.segments_within.only(elements.value(condition), elements.entries)
            case Call(kernel=logic.equal, arguments=(left, right)) if self.scope.are_codes(
                left, right
            ):
                return self._same_text(left, right)
            case _:
                return super()._compute(node)

    def _same_text(self, left: Node, right: Node) -> Vector:
        """Whether two texts are equal, told by their codes."""
        ours, theirs = text_source_of(left), text_source_of(right)
        assert ours is not None
        assert theirs is not None
        translated = self.scope.translation(ours, theirs).take(self.codes(ours))
        errors = either(self._missing_text(ours), self._missing_text(theirs))
        return truth(translated == self.codes(theirs), errors)

    def _missing_text(self, source: Source) -> Mask | None:
        """Which texts are missing; None: none."""
        if isinstance(source, Variable):
            return None
        missing: Mask = self.codes(source) == self.scope.vocabulary(source).size - 1
        return missing if missing.any() else None

    def _missing(self, name: str) -> Mask | None:
        """Which rows lack the attribute; None: no row."""
        column = self.scope.columns.columns[name]
        if isinstance(column, TextColumn):
            missing: Mask = column.codes[self.rows] == len(column.vocabulary) - 1
            return missing
        if column.present is None:
            return None
        present = column.present[self.rows]
        return None if present.all() else ~present

    def _attribute(self, node: Node, name: str) -> Vector:
        column = self.scope.columns.columns[name]
        if isinstance(column, TextColumn):
            return gather(self.scope.vocabulary(name).value(node), column.codes[self.rows])
        assert not isinstance(column, CollectionColumn)
        return Vector(column.values[self.rows], self._missing(name))

    def _element_at(self, name: str, position: Vector) -> Vector:
        column, segments = self.collection(name), self.segments(name)
        index = position.numbers
        inside = (index >= 0) & (index < segments.lengths)
        codes = np.full(self.size, len(column.vocabulary) - 1, np.int64)
        codes[inside] = column.codes[(segments.starts + index)[inside]]
        texts = take_texts(column.vocabulary, codes)
        return Vector(texts, either(position.errors, ~inside))


class RowFrame(TableFrame):
    """Some rows of the table."""

    def __init__(self, scope: Scope, rows: Rows, size: int) -> None:
        super().__init__(scope, size)
        self._rows = rows

    @property
    def rows(self) -> Rows:
        return self._rows

    def codes(self, source: Source) -> Codes:
        assert isinstance(source, str)
        column = self.scope.columns.columns[source]
        assert isinstance(column, TextColumn)
        return column.codes[self._rows]


class ElementFrame(TableFrame):
    """The elements of a list or map attribute of a parent's rows, one behind the other."""

    def __init__(self, parent: TableFrame, variable: Variable) -> None:
        self.segments_within = parent.segments(variable.collection)
        """Where the elements of each of the parent's rows stand."""
        super().__init__(parent.scope, self.segments_within.size)
        self._parent = parent
        self._variable = variable
        self._column = self.collection(variable.collection)

    @cached_property
    def rows(self) -> Rows:
        rows, parents = self._parent.rows, self.segments_within.parents
        return parents + rows.start if isinstance(rows, slice) else rows[parents]

    def codes(self, source: Source) -> Codes:
        if source == self._variable:
            return self._column.codes[self.segments_within.positions]
        return self._parent.codes(source)[self.segments_within.parents]

    @property
    def entries(self) -> NDArray[np.float64]:
        """The number of each entry of a map."""
        assert self._column.values is not None
        return self._column.values[self.segments_within.positions]

    def _compute(self, node: Node) -> Vector:
        if node.free and self._variable not in node.free:
            return gather(self._parent.value(node), self.segments_within.parents)
        match node:
            case Element(variable=variable) if variable == self._variable:
                vocabulary = self.scope.vocabulary(variable)
                return gather(vocabulary.value(node), self.codes(variable))
            case Entry():
                return Vector(self.entries)
            case _:
                return super()._compute(node)
