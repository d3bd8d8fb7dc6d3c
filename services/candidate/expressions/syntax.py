"""The tree of a checked expression, with its macros recognised."""

from dataclasses import dataclass
from enum import Enum

from heliograph.cel.v1alpha1 import checked_pb2

from services.candidate.expressions.errors import error_at

Plain = bool | int | float | str


class Macro(Enum):
    """What a loop asks."""

    EXISTS = "exists"
    ALL = "all"
    EXISTS_ONE = "exists_one"


@dataclass(frozen=True, slots=True)
class Literal:
    """A value as written."""

    offset: int
    value: Plain


@dataclass(frozen=True, slots=True)
class Name:
    """A variable: `now`, an attribute as `user.NAME`, `has_user.NAME`, or a macro's variable."""

    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or `has(operand.field)`."""

    offset: int
    operand: "Syntax"
    field: str
    is_test: bool


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function, method or operator; a method's receiver is the first argument."""

    offset: int
    function: str
    arguments: tuple["Syntax", ...]


@dataclass(frozen=True, slots=True)
class ListLiteral:
    """A list in brackets."""

    offset: int
    elements: tuple["Syntax", ...]


@dataclass(frozen=True, slots=True)
class MapLiteral:
    """A map in braces."""

    offset: int
    entries: tuple[tuple["Syntax", "Syntax"], ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """`range.macro(variable, condition)`."""

    offset: int
    macro: Macro
    variable: str
    range: "Syntax"
    condition: "Syntax"


Syntax = Literal | Name | Select | Invocation | ListLiteral | MapLiteral | Loop


def read_syntax(checked: checked_pb2.CheckedExpr, text: str) -> Syntax:
    """The tree of `checked`; ExpressionError for what is CEL but isn't supported here."""
    return _Reader(dict(checked.source_info.positions), text).read(checked.expr)


@dataclass(frozen=True, slots=True)
class _Reader:
    positions: dict[int, int]
    text: str

    def read(self, expr: checked_pb2.Expr) -> Syntax:
        offset = self.positions.get(expr.id, 0)
        match expr.WhichOneof("expr_kind"):
            case "const_expr":
                return Literal(offset, self._value(expr.const_expr, offset))
            case "ident_expr":
                return Name(offset, expr.ident_expr.name)
            case "select_expr":
                select = expr.select_expr
                return Select(offset, self.read(select.operand), select.field, select.test_only)
            case "call_expr":
                return self._call(expr.call_expr, offset)
            case "list_expr":
                elements = tuple(self.read(element) for element in expr.list_expr.elements)
                return ListLiteral(offset, elements)
            case "struct_expr":
                return self._map(expr.struct_expr, offset)
            case _:
                return self._loop(expr.comprehension_expr, offset)

    def _value(self, constant: checked_pb2.Constant, offset: int) -> Plain:
        match constant.WhichOneof("constant_kind"):
            case "bool_value":
                return constant.bool_value
            case "int64_value":
                return constant.int64_value
            case "double_value":
                return constant.double_value
            case "string_value":
                return constant.string_value
            case kind:
                names = {"uint64_value": "unsigned numbers", "bytes_value": "bytes"}
                message = f"{names.get(str(kind), 'null')} can't be used here"
                raise error_at(self.text, offset, message)

    def _call(self, call: checked_pb2.Expr.Call, offset: int) -> Invocation:
        receiver = [call.target] if call.HasField("target") else []
        arguments = tuple(self.read(argument) for argument in [*receiver, *call.args])
        return Invocation(offset, call.function, arguments)

    def _map(self, struct: checked_pb2.Expr.CreateStruct, offset: int) -> MapLiteral:
        if struct.message_name:
            message = f"messages such as {struct.message_name} can't be made here"
            raise error_at(self.text, offset, message)
        entries = [(self.read(entry.map_key), self.read(entry.value)) for entry in struct.entries]
        return MapLiteral(offset, tuple(entries))

    def _loop(self, loop: checked_pb2.Expr.Comprehension, offset: int) -> Loop:
        """The macro, told by what it starts from: false, true, 0, or, for those that make a list,
        an empty list."""
        macros = {False: Macro.EXISTS, True: Macro.ALL}
        step = loop.loop_step.call_expr.args
        match loop.accu_init.const_expr.WhichOneof("constant_kind"):
            case "bool_value":
                macro = macros[loop.accu_init.const_expr.bool_value]
                condition = step[1]
            case "int64_value":
                macro, condition = Macro.EXISTS_ONE, step[0]
            case _:
                message = "only the macros has, exists, all and exists_one can be used here"
                raise error_at(self.text, offset, message)
        return Loop(offset, macro, loop.iter_var, self.read(loop.iter_range), self.read(condition))
