"""The functions and operators that are supported, by the types of their arguments."""

from dataclasses import dataclass

from services.candidate.expressions import logic, numbers, texts, times
from services.candidate.expressions.nodes import Kernel
from services.candidate.expressions.schema import AttributeType as T


@dataclass(frozen=True, slots=True)
class Function:
    """A function of vectors."""

    result: T
    kernel: Kernel


_COMPARED = (T.BOOL, T.INT, T.DOUBLE, T.STRING, T.TIMESTAMP, T.DURATION)
_COMPARISONS: dict[str, Kernel] = {
    "_==_": logic.equal,
    "_<_": logic.less,
    "_<=_": logic.less_or_equal,
    "_>_": logic.greater,
    "_>=_": logic.greater_or_equal,
}

FUNCTIONS: dict[tuple[str, tuple[T, ...]], Function] = {
    **{
        (name, (kind, kind)): Function(T.BOOL, kernel)
        for name, kernel in _COMPARISONS.items()
        for kind in _COMPARED
    },
    ("!_", (T.BOOL,)): Function(T.BOOL, logic.negation),
    ("_&&_", (T.BOOL, T.BOOL)): Function(T.BOOL, logic.conjunction),
    ("_||_", (T.BOOL, T.BOOL)): Function(T.BOOL, logic.disjunction),
    **{("_?_:_", (T.BOOL, kind, kind)): Function(kind, logic.choice) for kind in _COMPARED},
    ("_+_", (T.INT, T.INT)): Function(T.INT, numbers.add_ints),
    ("_-_", (T.INT, T.INT)): Function(T.INT, numbers.subtract_ints),
    ("_*_", (T.INT, T.INT)): Function(T.INT, numbers.multiply_ints),
    ("_/_", (T.INT, T.INT)): Function(T.INT, numbers.divide_ints),
    ("_%_", (T.INT, T.INT)): Function(T.INT, numbers.modulo_ints),
    ("-_", (T.INT,)): Function(T.INT, numbers.negate_ints),
    ("_+_", (T.DOUBLE, T.DOUBLE)): Function(T.DOUBLE, numbers.add_doubles),
    ("_-_", (T.DOUBLE, T.DOUBLE)): Function(T.DOUBLE, numbers.subtract_doubles),
    ("_*_", (T.DOUBLE, T.DOUBLE)): Function(T.DOUBLE, numbers.multiply_doubles),
    ("_/_", (T.DOUBLE, T.DOUBLE)): Function(T.DOUBLE, numbers.divide_doubles),
    ("-_", (T.DOUBLE,)): Function(T.DOUBLE, numbers.negate_doubles),
    ("_+_", (T.TIMESTAMP, T.DURATION)): Function(T.TIMESTAMP, times.add_span),
    ("_+_", (T.DURATION, T.TIMESTAMP)): Function(T.TIMESTAMP, times.add_time),
    ("_-_", (T.TIMESTAMP, T.DURATION)): Function(T.TIMESTAMP, times.subtract_span),
    ("_-_", (T.TIMESTAMP, T.TIMESTAMP)): Function(T.DURATION, times.subtract_time),
    ("_+_", (T.DURATION, T.DURATION)): Function(T.DURATION, times.add_spans),
    ("_-_", (T.DURATION, T.DURATION)): Function(T.DURATION, times.subtract_spans),
    ("_+_", (T.STRING, T.STRING)): Function(T.STRING, texts.concatenation),
    ("size", (T.STRING,)): Function(T.INT, texts.length),
    ("lowerAscii", (T.STRING,)): Function(T.STRING, texts.lower_ascii),
    ("upperAscii", (T.STRING,)): Function(T.STRING, texts.upper_ascii),
    ("int", (T.INT,)): Function(T.INT, numbers.same),
    ("int", (T.DOUBLE,)): Function(T.INT, numbers.double_to_int),
    ("int", (T.TIMESTAMP,)): Function(T.INT, times.time_to_int),
    ("double", (T.DOUBLE,)): Function(T.DOUBLE, numbers.same),
    ("double", (T.INT,)): Function(T.DOUBLE, numbers.int_to_double),
    ("bool", (T.BOOL,)): Function(T.BOOL, numbers.same),
    ("string", (T.STRING,)): Function(T.STRING, numbers.same),
    ("string", (T.INT,)): Function(T.STRING, numbers.to_text),
    ("string", (T.BOOL,)): Function(T.STRING, numbers.to_text),
    ("timestamp", (T.TIMESTAMP,)): Function(T.TIMESTAMP, numbers.same),
    ("timestamp", (T.INT,)): Function(T.TIMESTAMP, times.int_to_time),
    ("duration", (T.DURATION,)): Function(T.DURATION, numbers.same),
}

PATTERN_FUNCTIONS: dict[str, Kernel] = {
    "startsWith": texts.starts_with,
    "endsWith": texts.ends_with,
    "contains": texts.contains,
    "matches": texts.matches,
}
"""Functions of a text and a literal text."""
