"""Draws well-typed expressions over the users of `users.py`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from services.candidate.expressions import AttributeType as T
from services.candidate.expressions import ExpressionError
from services.candidate.expressions.program import compile_expression
from tests.unit.candidate.expressions.users import DOUBLES, INTS, SCHEMA, SPANS, TEXTS, TIMES

Draw = Callable[..., Any]

_ORDERED = (T.INT, T.DOUBLE, T.STRING, T.BOOL, T.TIMESTAMP, T.DURATION)
_PATTERNS = ["a", "^a", "b$", "[A-Z]", "a.b", "(?i)LOYAL", "^$", "é|😀", "a*?b", r"\\d+", r"\\pL"]
_ZONES = ["UTC", "+05:30", "-08:00", "Europe/Prague", "America/New_York", "Asia/Kathmandu"]
_TIME_PARTS = [
    "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfYear", "getDayOfWeek",
    "getHours", "getMinutes", "getSeconds", "getMilliseconds",
]  # fmt: skip
_COMPARED = ["==", "!=", "<", "<=", ">", ">="]


def quoted(text: str) -> str:
    """A literal of the text."""
    plain = "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in text)
    return f'"{plain}"'


def _literal(draw: Draw, kind: T) -> str:
    match kind:
        case T.INT:
            return str(draw(INTS))
        case T.DOUBLE:
            return repr(draw(DOUBLES))
        case T.STRING:
            return quoted(draw(TEXTS))
        case T.BOOL:
            return str(draw(st.sampled_from(["true", "false"])))
        case T.TIMESTAMP:
            time: datetime = draw(TIMES)
            return f'timestamp("{time.astimezone(UTC).replace(tzinfo=None).isoformat()}Z")'
        case _:
            span: timedelta = draw(SPANS)
            return f'duration("{span // timedelta(microseconds=1)}us")'


def _attribute(draw: Draw, kind: T) -> str:
    names = [name for name, has in SCHEMA.types.items() if has is kind]
    name = draw(st.sampled_from(names))
    return f"user.{name}" if name.isidentifier() and name != "break" else f"user.`{name}`"


class _Grammar:
    """Draws expressions; `depth` bounds the nesting, `variables` are the macros' in scope."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw

    def pick(self, *options: Callable[[], str]) -> str:
        return str(self.draw(st.sampled_from(options))())

    def of(self, kind: T, depth: int, variables: tuple[str, ...] = ()) -> str:
        leaves = [lambda: _attribute(self.draw, kind), lambda: _literal(self.draw, kind)]
        if kind is T.TIMESTAMP:
            leaves.append(lambda: "now")
        if kind is T.STRING:
            leaves += [lambda name=name: name for name in variables for _ in range(3)]
        if depth <= 0:
            return self.pick(leaves[0], *leaves)

        def sub(inner: T) -> str:
            return self.of(inner, depth - 1, variables)

        def ternary() -> str:
            return f"({sub(T.BOOL)} ? {sub(kind)} : {sub(kind)})"

        def item() -> str:
            other = self.draw(st.sampled_from([T.INT, T.STRING]))
            if other is T.INT:
                elements = ", ".join(sub(kind) for _ in range(self.draw(st.integers(1, 3))))
                return f"[{elements}][{sub(T.INT)}]"
            keys = self.draw(st.lists(TEXTS, min_size=1, max_size=3, unique=True))
            entries = ", ".join(f"{quoted(key)}: {sub(kind)}" for key in keys)
            return "{" + entries + "}[" + sub(T.STRING) + "]"

        deeper = {
            T.BOOL: lambda: self._truth(depth, variables),
            T.INT: lambda: self._int(sub),
            T.DOUBLE: lambda: self._double(sub, variables),
            T.STRING: lambda: self._text(sub),
            T.TIMESTAMP: lambda: self._time(sub),
            T.DURATION: lambda: self._span(sub),
        }[kind]
        return self.pick(deeper, deeper, deeper, ternary, item, *leaves)

    def _truth(self, depth: int, variables: tuple[str, ...]) -> str:
        def sub(inner: T) -> str:
            return self.of(inner, depth - 1, variables)

        def compare() -> str:
            kind = self.draw(st.sampled_from(_ORDERED))
            return f"({sub(kind)} {self.draw(st.sampled_from(_COMPARED))} {sub(kind)})"

        def logic() -> str:
            return f"({sub(T.BOOL)} {self.draw(st.sampled_from(['&&', '||']))} {sub(T.BOOL)})"

        def contained() -> str:
            kind = self.draw(st.sampled_from(_ORDERED))
            elements = [sub(kind) for _ in range(self.draw(st.integers(1, 3)))]
            if self.draw(st.booleans()):
                elements = [_literal(self.draw, kind) for _ in range(9)]
            return f"({sub(kind)} in [{', '.join(elements)}])"

        def among() -> str:
            return f"({sub(T.STRING)} in {self._collection()})"

        def presence() -> str:
            return f"has({_attribute(self.draw, self.draw(st.sampled_from(list(T))))})"

        def key_presence() -> str:
            return f"has({_attribute(self.draw, T.NUMBER_MAP)}.a)"

        def macro() -> str:
            name = f"x{len(variables)}"
            over = self.pick(self._collection, self._collection, self._small_literal)
            function = self.draw(st.sampled_from(["exists", "all", "exists_one"]))
            condition = self.of(T.BOOL, depth - 1, (*variables, name))
            return f"{over}.{function}({name}, {condition})"

        def pattern() -> str:
            function = self.draw(st.sampled_from(["startsWith", "endsWith", "contains"]))
            return f"{sub(T.STRING)}.{function}({_literal(self.draw, T.STRING)})"

        def matching() -> str:
            return f'{sub(T.STRING)}.matches("{self.draw(st.sampled_from(_PATTERNS))}")'

        def same_list() -> str:
            elements = ", ".join(sub(T.STRING) for _ in range(self.draw(st.integers(0, 3))))
            sign = self.draw(st.sampled_from(["==", "!="]))
            return f"({_attribute(self.draw, T.STRING_LIST)} {sign} [{elements}])"

        return self.pick(
            compare, compare, logic, logic, lambda: f"!{sub(T.BOOL)}", contained, among, presence,
            key_presence, macro, macro, pattern, matching, same_list,
        )  # fmt: skip

    def _collection(self) -> str:
        return _attribute(self.draw, self.draw(st.sampled_from([T.STRING_LIST, T.NUMBER_MAP])))

    def _small_literal(self) -> str:
        texts = self.draw(st.lists(TEXTS, min_size=1, max_size=3, unique=True))
        if self.draw(st.booleans()):
            return "[" + ", ".join(map(quoted, texts)) + "]"
        return "{" + ", ".join(f"{quoted(text)}: 1" for text in texts) + "}"

    def _int(self, sub: Callable[[T], str]) -> str:
        sign = self.draw(st.sampled_from(["+", "-", "*", "/", "%"]))
        part = self.draw(st.sampled_from(_TIME_PARTS))
        zone = self.draw(st.sampled_from(["", *(f'"{zone}"' for zone in _ZONES)]))
        return self.pick(
            lambda: f"({sub(T.INT)} {sign} {sub(T.INT)})",
            lambda: f"-({sub(T.INT)})",
            lambda: f"size({self._collection()})",
            lambda: f"{sub(T.STRING)}.size()",
            lambda: f"int({sub(T.DOUBLE)})",
            lambda: f"int({sub(T.TIMESTAMP)})",
            lambda: f"{sub(T.TIMESTAMP)}.{part}({zone})",
            lambda: f"{sub(T.DURATION)}.{self.draw(st.sampled_from(_TIME_PARTS[-4:]))}()",
        )

    def _double(self, sub: Callable[[T], str], variables: tuple[str, ...]) -> str:
        sign = self.draw(st.sampled_from(["+", "-", "*", "/"]))
        return self.pick(
            lambda: f"({sub(T.DOUBLE)} {sign} {sub(T.DOUBLE)})",
            lambda: f"-({sub(T.DOUBLE)})",
            lambda: f"double({sub(T.INT)})",
            lambda: f"{_attribute(self.draw, T.NUMBER_MAP)}[{sub(T.STRING)}]",
            *[lambda name=name: f"user.hours[{name}]" for name in variables],
            lambda: f"{_attribute(self.draw, T.NUMBER_MAP)}.a",
        )

    def _text(self, sub: Callable[[T], str]) -> str:
        return self.pick(
            lambda: f"({sub(T.STRING)} + {sub(T.STRING)})",
            lambda: f"{_attribute(self.draw, T.STRING_LIST)}[{sub(T.INT)}]",
            lambda: f"{sub(T.STRING)}.{self.draw(st.sampled_from(['lower', 'upper']))}Ascii()",
            lambda: f"string({sub(T.INT)})",
            lambda: f"string({sub(T.BOOL)})",
        )

    def _time(self, sub: Callable[[T], str]) -> str:
        return self.pick(
            lambda: f"({sub(T.TIMESTAMP)} + {sub(T.DURATION)})",
            lambda: f"({sub(T.TIMESTAMP)} - {sub(T.DURATION)})",
            lambda: f"({sub(T.DURATION)} + {sub(T.TIMESTAMP)})",
            lambda: f"timestamp({sub(T.INT)})",
        )

    def _span(self, sub: Callable[[T], str]) -> str:
        sign = self.draw(st.sampled_from(["+", "-"]))
        return self.pick(
            lambda: f"({sub(T.TIMESTAMP)} - {sub(T.TIMESTAMP)})",
            lambda: f"({sub(T.DURATION)} {sign} {sub(T.DURATION)})",
        )


@st.composite
def _unlimited(draw: Draw, kinds: tuple[T, ...], depth: int) -> str:
    return _Grammar(draw).of(draw(st.sampled_from(kinds)), depth)


_ATOMS = [
    "true", "false", "1 / 0 > 0", "user.vip", "user.trial", "has(user.vip)", "user.age > 0",
    "1 / user.age > 0", "user.score < 1.0", "user.group == 'a'", "user.group == user.city",
    "user.group in user.tags", "user.hours.a > 0.0", "has(user.hours.a)", "user.tags[1] == 'b'",
    "user.joined < now", "[1, user.age].exists(x, x > 2)", "user.group != 'b'",
]  # fmt: skip
_ATOMS_OF_ELEMENTS = [
    "x == user.group", "x == 'a'", "x != 'b'", "user.hours[x] > 0.0", "x in user.likes",
    "user.likes[x.size()] == x", "user.tags.exists(y, y != x)", "user.hours.all(y, y < x)",
    "x.startsWith(\"a\")", "{'a': user.age, 'b': 1}[x] > 0",
]  # fmt: skip


def truths() -> st.SearchStrategy[str]:
    """Expressions that are all logic: small conditions, many of which are errors, under `&&`, `||`,
    `!`, `? :` and macros."""

    def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        over = st.sampled_from(["user.tags", "user.likes", "user.hours", "['a', 'b']"])
        macro = st.sampled_from(["exists", "all", "exists_one"])
        element = st.one_of(st.sampled_from(_ATOMS_OF_ELEMENTS), inner)
        return st.one_of(
            st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner),
            st.builds("!{}".format, inner.map("({})".format)),
            st.builds("({} ? {} : {})".format, inner, inner, inner),
            st.builds("{}.{}(x, {} {} {})".format, over, macro, element, _SIGNS, element),
        )

    return st.recursive(st.sampled_from(_ATOMS), combined, max_leaves=8).filter(_is_within_limits)


_SIGNS = st.sampled_from(["&&", "||"])


def expressions(kinds: tuple[T, ...] = _ORDERED, depth: int = 4) -> st.SearchStrategy[str]:
    """Well-typed expressions of any of the types, within the limits of length, depth and cost."""
    return _unlimited(kinds, depth).filter(_is_within_limits)


def _is_within_limits(text: str) -> bool:
    """Anything but a limit that is against the expression fails the test."""
    try:
        compile_expression(text, SCHEMA)
    except ExpressionError as error:
        if "at most" not in error.message:
            raise
        return False
    return True
