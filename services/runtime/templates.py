"""Plain words from templates: Liquid with limits, for candidate (checks) and copygen (renders).

Templates come from product teams and values from anywhere, so neither is trusted: Liquid has no
access to Python, loops and output are bounded, and what comes out is plain text without control
characters. HTML escaping belongs to the channel that needs it.
"""

import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from liquid import BoundTemplate, Environment
from liquid.exceptions import LiquidError

TITLE_LIMIT = 200
BODY_LIMIT = 2000
_KEPT_FORMAT_CHARACTERS = "\u200d\ufe0f"  # they join emoji


class _Limited(Environment):
    block_nesting_limit = 8
    context_depth_limit = 8
    loop_iteration_limit = 500
    local_namespace_limit = 4096
    output_stream_limit = 16_384


_ENVIRONMENT = _Limited()


class TemplateError(ValueError):
    """The template is wrong, or goes over a limit with these values."""


def check(source: str) -> str | None:
    """What is wrong with a template, for the person who wrote it; None when it can be parsed."""
    try:
        _compiled(source)
    except TemplateError as error:
        return str(error)
    return None


def render(source: str, values: Mapping[str, object], limit: int) -> str:
    """The template's text with `values`, cleaned and cut at `limit` characters.

    Unknown names are empty. Raises TemplateError.
    """
    template = _compiled(source)
    try:
        return clean(template.render(**values), limit)
    except LiquidError as error:
        raise TemplateError(_first_line(error)) from error
    except (ArithmeticError, TypeError, ValueError, RecursionError) as error:
        raise TemplateError(f"a filter can't work with these values: {error}") from error


def clean(text: str, limit: int) -> str:
    """One line of plain text: no control or direction-changing characters, no runs of spaces, at
    most `limit` characters; a cut ends in `…`."""
    kept = "".join(
        " " if character.isspace() else character for character in text if _kept(character)
    )
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _kept(character: str) -> bool:
    if character.isspace() or character in _KEPT_FORMAT_CHARACTERS:
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")


@lru_cache(maxsize=4096)
def _compiled(source: str) -> BoundTemplate:
    try:
        template = _ENVIRONMENT.from_string(source)
    except LiquidError as error:
        raise TemplateError(_first_line(error)) from error
    # Unknown filters would fail only in the branch that uses them.
    unknown = set(template.analyze(include_partials=False).filters) - set(_ENVIRONMENT.filters)
    if unknown:
        raise TemplateError(f"there is no filter named {', '.join(sorted(unknown))}")
    return template


def _first_line(error: LiquidError) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
