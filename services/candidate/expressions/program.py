"""Compiled filters and boosters."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from math import prod

import numpy as np
from numpy.typing import NDArray

from services.candidate.expressions import numbers
from services.candidate.expressions.checking import check
from services.candidate.expressions.columns import Columns
from services.candidate.expressions.cost import require_affordable
from services.candidate.expressions.errors import error_at
from services.candidate.expressions.frames import Scope
from services.candidate.expressions.nodes import Node, Nodes
from services.candidate.expressions.schema import AttributeType, Schema
from services.candidate.expressions.table_frames import RowFrame
from services.candidate.expressions.translation import Translator
from services.candidate.expressions.values import microseconds
from services.candidate.expressions.vectors import Index, Vector

_CHUNK = 65_536
"""Rows, or elements of their lists, worked on at a time, so that they stay in the cache."""
_MOST_ELEMENTS = 8_000_000
"""Elements worked on at a time at worst."""
_MOST_TEXT = 64 * 2**20
"""Bytes of one text per row worked on at a time, about."""


@dataclass(frozen=True, eq=False, slots=True)
class Matches:
    """Answer of a filter."""

    matches: NDArray[np.bool_]
    """Per row; False where the filter ended in an error."""
    error_count: int
    """Rows in which it ended in an error."""


@dataclass(frozen=True, eq=False, slots=True)
class Factors:
    """Answer of a booster."""

    factors: NDArray[np.float64]
    """Per row: in [0, GREATEST_FACTOR]; 1 where the booster ended in an error."""
    error_count: int
    """Rows in which it ended in an error."""


@dataclass(frozen=True, eq=False, slots=True)
class Program:
    """A compiled expression of any type that isn't a list or map. Immutable; may be used by several
    threads at once."""

    text: str
    """The expression as written."""
    cost: int
    """Operations per row at worst."""
    root: Node
    """What is computed."""
    nests: frozenset[tuple[str, ...]]
    """The list and map attributes of each nest of macros."""

    def parts(
        self, columns: Columns, now: datetime, rows: Index | None = None
    ) -> Iterator[tuple[slice, Vector]]:
        """The values, one slice of the rows after the other."""
        size = columns.size if rows is None else len(rows)
        scope = Scope(columns, microseconds(now), size)
        step = self._step(columns)
        for start in range(0, size, step):
            part = slice(start, min(start + step, size))
            frame = RowFrame(scope, part if rows is None else rows[part], part.stop - start)
            with np.errstate(all="ignore"):
                found = frame.value(self.root)
            yield part, found

    def _step(self, columns: Columns) -> int:
        """Rows to work on at a time."""
        schema = columns.schema
        step = _CHUNK
        for nest in self.nests:
            mean = prod(max(1.0, columns.mean_length(name)) for name in nest)
            longest = prod(max(1, schema.longest_of(name)) for name in nest)
            step = min(step, int(_CHUNK / mean), _MOST_ELEMENTS // longest)
        names = [source for source in self.root.free if isinstance(source, str)]
        width = sum(columns.mean_text_bytes(name) for name in names)
        return max(1, min(step, int(_MOST_TEXT / width) if width else step))


class FilterProgram(Program):
    """A compiled filter. Immutable; may be used by several threads at once."""

    def evaluate(self, columns: Columns, now: datetime, rows: Index | None = None) -> Matches:
        """Which rows it matches, of the whole table or of `rows`, in their order. The table has to
        have at least the attributes that the filter was compiled with."""
        size = columns.size if rows is None else len(rows)
        matches, errors = np.empty(size, np.bool_), 0
        for part, found in self.parts(columns, now, rows):
            matches[part] = found.truths
            errors += _count(found, part)
        return Matches(matches, errors)


class BoosterProgram(Program):
    """A compiled booster. Immutable; may be used by several threads at once."""

    def evaluate(self, columns: Columns, now: datetime, rows: Index | None = None) -> Factors:
        """The factor of each row, of the whole table or of `rows`, in their order. The table has to
        have at least the attributes that the booster was compiled with."""
        size = columns.size if rows is None else len(rows)
        factors, errors = np.empty(size, np.float64), 0
        for part, found in self.parts(columns, now, rows):
            factors[part] = found.numbers
            if found.errors is not None:
                factors[part][np.broadcast_to(found.errors, part.stop - part.start)] = 1.0
                errors += _count(found, part)
        return Factors(factors, errors)


def compile_expression(text: str, schema: Schema) -> Program:
    """An expression over the attributes of `schema`; ExpressionError if it can't be used."""
    return _compile(text, schema, Nodes())


def compile_filter(text: str, schema: Schema) -> FilterProgram:
    """A filter over the attributes of `schema`; ExpressionError if it can't be used."""
    program = _compile(text, schema, Nodes())
    _require_type(program, "filter", AttributeType.BOOL)
    return FilterProgram(text, program.cost, program.root, program.nests)


def compile_booster(text: str, schema: Schema) -> BoosterProgram:
    """A booster over the attributes of `schema`; ExpressionError if it can't be used."""
    nodes = Nodes()
    program = _compile(text, schema, nodes)
    _require_type(program, "booster", AttributeType.DOUBLE, AttributeType.INT)
    root = nodes.call(AttributeType.DOUBLE, numbers.factor, program.root)
    return BoosterProgram(text, program.cost, root, program.nests)


def _compile(text: str, schema: Schema, nodes: Nodes) -> Program:
    tree = check(text, schema)
    cost = require_affordable(tree, text, schema)
    translator = Translator(text, schema, nodes)
    return Program(text, cost, translator.scalar(tree), translator.nests)


def _require_type(program: Program, role: str, *allowed: AttributeType) -> None:
    kind = program.root.type
    if kind not in allowed:
        wanted = " or ".join(choice.value for choice in allowed)
        message = f"a {role} has to be of type {wanted}, this is of type {kind.value}"
        raise error_at(program.text, 0, message)


def _count(found: Vector, part: slice) -> int:
    """Rows of the part that are errors."""
    if found.errors is None:
        return 0
    size = part.stop - part.start
    return int(np.count_nonzero(found.errors)) * (size if len(found.errors) == 1 else 1)
