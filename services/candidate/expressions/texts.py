"""CEL's string functions over vectors. Patterns are literals of the expression."""

import pyarrow as pa
import pyarrow.compute as pc

from services.candidate.expressions.vectors import Vector, as_mask, as_texts, either, truth

_NOTHING = pa.scalar("", pa.large_string())


def length(operand: Vector) -> Vector:
    """Number of code points."""
    lengths = pc.utf8_length(operand.texts)
    return Vector(lengths.to_numpy(), operand.errors)


def concatenation(left: Vector, right: Vector) -> Vector:
    """`left + right`."""
    joined = pc.binary_join_element_wise(left.operand, right.operand, _NOTHING)
    return Vector(as_texts(joined), either(left.errors, right.errors))


def lower_ascii(operand: Vector) -> Vector:
    """With A–Z in lower case; other letters stay."""
    return Vector(as_texts(pc.ascii_lower(operand.texts)), operand.errors)


def upper_ascii(operand: Vector) -> Vector:
    """With a–z in upper case; other letters stay."""
    return Vector(as_texts(pc.ascii_upper(operand.texts)), operand.errors)


def starts_with(prefix: str, operand: Vector) -> Vector:
    """Whether the text begins with `prefix`."""
    return truth(as_mask(pc.starts_with(operand.texts, prefix)), operand.errors)


def ends_with(suffix: str, operand: Vector) -> Vector:
    """Whether the text ends in `suffix`."""
    return truth(as_mask(pc.ends_with(operand.texts, suffix)), operand.errors)


def contains(part: str, operand: Vector) -> Vector:
    """Whether `part` stands anywhere in the text."""
    return truth(as_mask(pc.match_substring(operand.texts, part)), operand.errors)


def matches(pattern: str, operand: Vector) -> Vector:
    """Whether RE2 finds the pattern anywhere; its time is linear in the text."""
    return truth(as_mask(pc.match_substring_regex(operand.texts, pattern)), operand.errors)


def pattern_fault(pattern: str) -> str | None:
    """What RE2 says against a pattern; None if it is sound."""
    try:
        pc.match_substring_regex(pa.array([""], pa.large_string()), pattern)
    except pa.ArrowInvalid as error:
        return str(error)
    return None
