"""What an answer's scores depend on besides relevance, read and compiled for one question."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from services.candidate.budget import Budgets
from services.candidate.budget_columns import BudgetColumns
from services.candidate.choosing import GROUPING, Spread
from services.candidate.expressions import (
    AttributeType,
    Columns,
    ExpressionError,
    Schema,
    compile_booster,
    compile_filter,
)
from services.candidate.index import IndexState
from services.candidate.judging import Judge
from services.candidate.questions import (
    BudgetSeen,
    BudgetUse,
    Choice,
    Page,
    Subject,
)
from services.candidate.rotation import Recent, Recommendations
from services.candidate.scoring import Table
from services.runtime.clock import Clock
from services.runtime.errors import FieldError, InvalidArgument

Program = TypeVar("Program")
Compile = Callable[[str, Schema], Program]
PROGRAMS = 256
"""Compiled expressions that are kept."""


@dataclass(frozen=True, eq=False, slots=True)
class Criteria:
    """How the answer to one question is judged and chosen."""

    judge: Judge
    spread: Spread | None
    """None: no spreading."""
    budget: BudgetSeen | None
    """None: not asked for."""


class CriteriaReader:
    """Reads what the criteria of questions need: earlier answers and budgets."""

    def __init__(self, given: Recommendations, budgets: Budgets, clock: Clock) -> None:
        self._given = given
        self._budgets = budgets
        self._clock = clock

    async def read(
        self, state: IndexState, subject: Subject, table: Table, choice: Choice, page: Page
    ) -> Criteria:
        """The criteria of a question. Raises InvalidArgument with the field, and the position in an
        expression, of what is wrong."""
        schema = table.columns.schema
        compiled_filter = _compiled("filter", choice.filter, compile_filter, schema, choice)
        booster = _compiled("booster", choice.booster, compile_booster, schema, choice)
        spread = _spread(table.columns, choice)
        recent = await self._recent(state, subject, choice, page)
        budgets, seen = await self._budget(state, choice)
        judge = Judge(
            columns=table.columns,
            moment=page.moment,
            min_relevance=choice.min_relevance,
            filter=compiled_filter,
            booster=booster,
            recent=recent,
            budgets=budgets,
            budget_use=choice.budget,
        )
        return Criteria(judge, spread, seen)

    async def _recent(
        self, state: IndexState, subject: Subject, choice: Choice, page: Page
    ) -> Recent | None:
        if choice.rotation is None:
            return None
        since = page.moment - choice.rotation.time
        returned = await self._given.returned(subject, choice.scenario, page, since)
        users, items = state.catalogue.user_rows, state.catalogue.item_rows
        known = users if subject.direction.returns_users else items
        return Recent.build(returned, known, choice.rotation, page.moment)

    async def _budget(
        self, state: IndexState, choice: Choice
    ) -> tuple[BudgetColumns | None, BudgetSeen | None]:
        if choice.budget is BudgetUse.OFF:
            return None, None
        columns = await self._budgets.current(state.catalogue.user_ids)
        age = None if columns is None else self._clock.now() - columns.read_time
        return columns, BudgetSeen(age)


def _compiled(
    name: str, text: str, compile_text: Compile[Program], schema: Schema, choice: Choice
) -> Program | None:
    if not text:
        return None
    try:
        key = frozenset(schema.types.items()), frozenset(schema.longest.items()), schema.owner
        program: Program = _program(compile_text, text, *key)
    except ExpressionError as error:
        raise wrong_parameter(name, str(error), choice) from error
    return program


@lru_cache(PROGRAMS)
def _program(
    compile_text: Compile[Any],
    text: str,
    types: frozenset[tuple[str, AttributeType]],
    longest: frozenset[tuple[str, int]],
    owner: str,
) -> Any:
    """Compiling takes milliseconds, as long as a good part of the search, and the same few
    expressions are asked with again and again."""
    return compile_text(text, Schema(dict(types), dict(longest), owner))


def _spread(columns: Columns, choice: Choice) -> Spread | None:
    if choice.diversity is None:
        return None
    name = choice.diversity.attribute
    kind = columns.types.get(name)
    if kind is None:
        problem = f'no {columns.owner} has an attribute "{name}"'
        raise wrong_parameter("diversity_attribute", problem, choice)
    if kind not in GROUPING:
        problem = f'"{name}" is of type {kind.value}; it has to be string, int or bool'
        raise wrong_parameter("diversity_attribute", problem, choice)
    return Spread(columns, name, choice.diversity.strength)


def wrong_parameter(name: str, problem: str, choice: Choice) -> InvalidArgument:
    """The error for a parameter of a request, or of the scenario it names."""
    if name not in choice.from_scenario:
        return wrong_expression(f"parameters.{name}", problem)
    return wrong_expression(
        "parameters.scenario", f"{name} of scenario {choice.scenario!r}: {problem}"
    )


def wrong_expression(path: str, problem: str) -> InvalidArgument:
    """The error for a field with an expression, or the name of an attribute, that can't be used."""
    return InvalidArgument(problem, reason="EXPRESSION", fields=[FieldError(path, problem)])
