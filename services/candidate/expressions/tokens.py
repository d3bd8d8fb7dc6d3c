"""Reads an expression's tokens, before the library sees it.

Each attribute is declared to the library as a variable with a dot in its name. Two things have to
be done before: an unknown attribute is told with its position and its neighbours, and
`has(user.NAME)`, which the library would answer with the attribute's value, becomes the truth
variable `has_user.NAME`. What is put in is as long as what it replaces, so that offsets stay right.
"""

import difflib
import re
from dataclasses import dataclass

from services.candidate.expressions.errors import error_at
from services.candidate.expressions.schema import Schema

MAX_LENGTH = 4096
"""Greatest length of an expression in code points."""

_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | //[^\n]* )
  | (?P<text>
        [bB]?[rR][bB]? (?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"\n]*" | '[^'\n]*' )
      | [bB]? (?: \"{3}(?:\\.|[^\\])*?\"{3} | '{3}(?:\\.|[^\\])*?'{3}
                | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' ) )
  | (?P<number> \d[\w.]* )
  | (?P<name> [A-Za-z_]\w* )
  | (?P<quoted> `[\w/\ -]+` )
  | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text."""

    text: str
    start: int
    is_name: bool

    @property
    def end(self) -> int:
        """Where the next piece may begin."""
        return self.start + len(self.text)

    @property
    def name(self) -> str:
        """The name without its backquotes."""
        return self.text.strip("`")


@dataclass(frozen=True, slots=True)
class Prepared:
    """An expression that is ready for the library."""

    text: str
    """As long as the original."""
    attributes: frozenset[str]
    """The attributes that it names."""


def prepare(text: str, schema: Schema) -> Prepared:
    """The text with its `has(user.NAME)` replaced; ExpressionError for unknown attributes and for a
    text that is empty or too long."""
    if not text.strip():
        raise error_at(text, 0, "the expression is empty")
    if len(text) > MAX_LENGTH:
        message = f"the expression has {len(text)} characters; at most {MAX_LENGTH} are allowed"
        raise error_at(text, MAX_LENGTH, message)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise error_at(text, error.start, "this is half a character") from None
    tokens = _tokens(text)
    parts, copied, named = [], 0, set()
    for index, token in enumerate(tokens):
        if not token.is_name or (index and tokens[index - 1].text == "."):
            continue
        if token.text == "has" and _follow(tokens, index, "(("):
            raise error_at(
                text, token.start, f"write has({schema.owner}.NAME), with single parentheses"
            )
        if (
            token.text != schema.owner
            or not _follow(tokens, index, ".")
            or len(tokens) <= index + 2
        ):
            continue
        name = tokens[index + 2]
        if not name.is_name:
            continue
        _require_known(text, name, schema)
        named.add(name.name)
        if _is_presence(tokens, index):
            start, end = tokens[index - 2].start, tokens[index + 3].end
            parts += [
                text[copied:start],
                _padded(f"{schema.presence}.{name.text}", text[start:end]),
            ]
            copied = end
    return Prepared("".join([*parts, text[copied:]]), frozenset(named))


def _tokens(text: str) -> list[Token]:
    return [
        Token(match.group(), match.start(), match.lastgroup in ("name", "quoted"))
        for match in _TOKEN.finditer(text)
        if match.lastgroup != "space"
    ]


def _follow(tokens: list[Token], index: int, signs: str) -> bool:
    following = tokens[index + 1 : index + 1 + len(signs)]
    return [token.text for token in following] == list(signs)


def _is_presence(tokens: list[Token], index: int) -> bool:
    """Whether the owner at `index` stands in `has(owner.NAME)`."""
    return (
        index >= 2
        and tokens[index - 2].text == "has"
        and tokens[index - 1].text == "("
        and (index < 3 or tokens[index - 3].text != ".")
        and _follow(tokens, index + 2, ")")
    )


def _padded(replacement: str, original: str) -> str:
    """`replacement`, then the spaces that keep all offsets behind it."""
    return replacement.ljust(len(original))


def _require_known(text: str, name: Token, schema: Schema) -> None:
    if name.name in schema.types:
        return
    near = difflib.get_close_matches(name.name, schema.types, n=3)
    written = " or ".join(f"{schema.owner}.{known}" for known in near)
    hint = f"; did you mean {written}?" if near else ""
    raise error_at(text, name.start, f'no {schema.owner} has an attribute "{name.name}"{hint}')
