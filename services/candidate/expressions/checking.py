"""Parses and type-checks with Google's CEL library."""

import re
from collections.abc import Iterable

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings
from google.protobuf import any_pb2
from heliograph.cel.v1alpha1 import checked_pb2

from services.candidate.expressions.errors import ExpressionError, error_at
from services.candidate.expressions.schema import AttributeType, Schema
from services.candidate.expressions.syntax import Syntax, read_syntax
from services.candidate.expressions.tokens import prepare

NOW = "now"
_TYPES = {
    AttributeType.BOOL: cel.Type.BOOL,
    AttributeType.INT: cel.Type.INT,
    AttributeType.DOUBLE: cel.Type.DOUBLE,
    AttributeType.STRING: cel.Type.STRING,
    AttributeType.TIMESTAMP: cel.Type.TIMESTAMP,
    AttributeType.DURATION: cel.Type.DURATION,
    AttributeType.STRING_LIST: cel.Type.List(cel.Type.STRING),
    AttributeType.NUMBER_MAP: cel.Type.Map(cel.Type.STRING, cel.Type.DOUBLE),
}
_EXTENSIONS = [ext_strings.ExtStrings()]
_ERROR = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_UNKNOWN = re.compile(r"undeclared reference to '([^']+)'")
_CUT = "token recognition error at: '"
_WORDS = {
    " (in container '')": "",
    "google.protobuf.Timestamp": "timestamp",
    "google.protobuf.Duration": "duration",
}


_MIXED = re.compile(r"\((int|double), (int|double)\)")
_LITERAL = r"(\d+)(\.\d+)?"
_LITERAL_BEFORE = re.compile(rf"(?<![\w.]){_LITERAL}\s*$")
_LITERAL_AFTER = re.compile(rf"[<>=!+*/%-]+\s*(?:-\s*)?{_LITERAL}(?![\w.])")


def check(text: str, schema: Schema) -> Syntax:
    """The tree of a well-typed expression; ExpressionError otherwise."""
    prepared = prepare(text, schema)
    environment = cel.NewEnv(
        variables=_variables(prepared.attributes, schema), extensions=_EXTENSIONS
    )
    try:
        compiled = environment.compile(prepared.text)
    except RuntimeError as error:
        raise _translated(text, prepared.text, str(error), schema.owner) from None
    envelope = any_pb2.Any.FromString(compiled.serialize())
    return read_syntax(checked_pb2.CheckedExpr.FromString(envelope.value), text)


def check_syntax(text: str) -> None:
    """ExpressionError for a text that no attributes could make an expression."""
    if not text.strip():
        raise error_at(text, 0, "the expression is empty")
    try:
        cel.NewEnv(extensions=_EXTENSIONS).compile(text, disable_check=True)
    except RuntimeError as error:
        raise _translated(text, text, str(error), "") from None


def _variables(names: Iterable[str], schema: Schema) -> dict[str, cel.Type]:
    values = {f"{schema.owner}.{name}": _TYPES[schema.types[name]] for name in names}
    presences = {f"{schema.presence}.{name}": cel.Type.BOOL for name in names}
    return {**values, **presences, NOW: cel.Type.TIMESTAMP}


def _translated(text: str, prepared: str, message: str, owner: str) -> ExpressionError:
    """The first error that the library tells, with its position in the original text."""
    for line, column, told in _ERROR.findall(message):
        if int(line) > 0 and int(column) > 0:
            starts = [0, *(found.end() for found in re.finditer(r"\n", prepared))]
            offset = starts[min(int(line), len(starts)) - 1] + int(column) - 1
            message = _in_words(_shown(told), owner, text, offset)
            return error_at(text, _begin(told, prepared, offset), message)
    if "recursion" in message:
        return error_at(text, 0, "the expression is nested too deeply: at most 32 levels")
    return error_at(text, 0, "the expression can't be read")


def _begin(told: str, prepared: str, offset: int) -> int:
    """Where a name begins that isn't known; the library tells the bracket or the dot behind it."""
    unknown = _UNKNOWN.match(told)
    if unknown is None or prepared[offset : offset + 1] not in ("(", "."):
        return offset
    names = [re.escape(name) for name in unknown.group(1).split(".")]
    for count in range(len(names), 0, -1):
        written = r"\s*\.\s*".join(names[:count])
        before = re.search(rf"(?<!\w){written}\s*$", prepared[:offset])
        if before:
            return before.start()
    return offset


def _shown(told: str) -> str:
    """With control characters escaped. The library's messages end at a NUL character."""
    whole = f"{told}\0'" if told.endswith(_CUT) else told
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole)


def _in_words(told: str, owner: str, text: str, offset: int) -> str:
    for found, replacement in _WORDS.items():
        told = told.replace(found, replacement)
    if f"undeclared reference to '{owner}'" in told:
        return f"attributes are written {owner}.NAME"
    if "no matching overload" in told and "int" in told and "double" in told:
        return f"{told}; whole numbers and doubles don't mix: {_way_out(told, text, offset)}"
    return told


def _way_out(told: str, text: str, offset: int) -> str:
    """What to write where the operator at the offset stands between a whole number and a double."""
    types, convert = _MIXED.search(told), "convert the whole number by double()"
    if types is None:
        return convert
    before, after = _LITERAL_BEFORE.search(text[:offset]), _LITERAL_AFTER.match(text[offset:])
    for kind, literal in zip(types.groups(), (before, after), strict=True):
        if literal and kind == "int":
            return f"write {literal.group(1)}.0, or convert by double()"
        if literal and literal.group(2) and not literal.group(2).strip(".0"):
            return f"write {literal.group(1)}, or {convert}"
    return convert
