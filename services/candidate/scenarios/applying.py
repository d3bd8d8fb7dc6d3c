"""What a scenario makes of a request's parameters."""

import re
from dataclasses import dataclass
from itertools import product
from typing import Literal

from heliograph.candidate.v1alpha1 import recommending_pb2, scenarios_pb2

from services.candidate.expressions import ExpressionError, check_syntax
from services.candidate.questions import Direction
from services.runtime.errors import FieldError, InvalidArgument

Expression = Literal["filter", "booster", "diversity_attribute"]
EXPRESSIONS: tuple[Expression, ...] = ("filter", "booster", "diversity_attribute")
"""Parameters in which placeholders stand."""
SUBJECT = "subject"
"""The placeholder of the id asked about."""

SAMPLES = ("a", "1", "&&")
"""Values of a placeholder that stands for a name or words, a number, an operator."""
MOST_TRIED = 5
"""Placeholders in one expression beyond which their samples are too many to be tried."""

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_PLAIN = re.compile(r"[^\"'`\\\x00-\x1f\x7f]*").fullmatch


@dataclass(frozen=True, slots=True)
class Applied:
    """The parameters of a request with a scenario's where it gives none."""

    parameters: recommending_pb2.RecommendationParameters
    from_scenario: frozenset[str] = frozenset()
    """Which of EXPRESSIONS the scenario gave."""
    reciprocal: bool = False
    """What the scenario says of users who are matched."""


def apply(
    scenario: scenarios_pb2.Scenario,
    given: recommending_pb2.RecommendationParameters,
    direction: Direction,
    subject: str,
) -> Applied:
    """The scenario's parameters, overruled by those given. Raises InvalidArgument for a scenario of
    another direction, and for values that it lacks or that can't be filled in."""
    if int(scenario.direction) != direction:
        kind = scenarios_pb2.ScenarioDirection.Name(scenario.direction)
        raise _wrong("scenario", f"scenario {scenario.name!r} is for {kind}", "WRONG_DIRECTION")
    values = _values(scenario, given, subject)
    merged = recommending_pb2.RecommendationParameters()
    merged.CopyFrom(scenario.parameters)
    used = frozenset(
        name for name in EXPRESSIONS if merged.HasField(name) and not given.HasField(name)
    )
    for name in used:
        setattr(merged, name, _filled(scenario.name, getattr(merged, name), values))
    if given.returned_attributes:
        merged.ClearField("returned_attributes")
    merged.MergeFrom(given)
    return Applied(merged, used, scenario.reciprocal)


def check(scenario: scenarios_pb2.Scenario) -> None:
    """Raises InvalidArgument for a scenario that could never be used."""
    declared = [placeholder.name for placeholder in scenario.placeholders]
    wrong = []
    if SUBJECT in declared or len(set(declared)) < len(declared):
        problem = f"names have to differ, and {SUBJECT!r} is taken"
        wrong.append(FieldError("scenario.placeholders", problem))
    if scenario.parameters.scenario or scenario.parameters.scenario_values:
        problem = "a scenario can't name another one"
        wrong.append(FieldError("scenario.parameters.scenario", problem))
    for name in EXPRESSIONS:
        for found in _PLACEHOLDER.findall(getattr(scenario.parameters, name)):
            if found not in (*declared, SUBJECT):
                problem = f"${{{found}}} is not among the placeholders"
                wrong.append(FieldError(f"scenario.parameters.{name}", problem))
    for name in ("filter", "booster"):
        problem = _unreadable(scenario, getattr(scenario.parameters, name))
        if problem:
            wrong.append(FieldError(f"scenario.parameters.{name}", problem))
    if wrong:
        message = f"{wrong[0].path}: {wrong[0].description}"
        raise InvalidArgument(message, reason="INVALID_SCENARIO", fields=wrong)


def _unreadable(scenario: scenarios_pb2.Scenario, text: str) -> str:
    """Why no values of the placeholders make an expression of the text, as far as their defaults
    and samples of the others can tell; empty: some may."""
    names = sorted(set(_PLACEHOLDER.findall(text)))
    if not text or len(names) > MOST_TRIED:
        return ""
    defaults = {one.name: one.default_value for one in scenario.placeholders if one.default_value}
    choices = [(defaults[name],) if name in defaults else SAMPLES for name in names]
    problem = ""
    for chosen in product(*choices):
        try:
            check_syntax(_replaced(text, dict(zip(names, chosen, strict=True))))
        except ExpressionError as error:
            problem = problem or str(error)
        else:
            return ""
    return problem


def _replaced(text: str, values: dict[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], text)


def _values(
    scenario: scenarios_pb2.Scenario,
    given: recommending_pb2.RecommendationParameters,
    subject: str,
) -> dict[str, str]:
    values = {one.name: one.default_value for one in scenario.placeholders}
    for name, value in given.scenario_values.items():
        if name not in values:
            problem = f"scenario {scenario.name!r} has no placeholder {name!r}"
            raise _wrong("scenario_values", problem, "UNKNOWN_PLACEHOLDER")
        if not _PLAIN(value):
            problem = f"the value of {name!r} contains quotes, backslashes or control characters"
            raise _wrong("scenario_values", problem, "INVALID_FIELD")
        values[name] = value
    return {**values, SUBJECT: subject}


def _filled(scenario: str, text: str, values: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        known = values[name]
        if not known or not _PLAIN(known):
            problem = f"scenario {scenario!r} needs a plain value for {name!r}"
            raise _wrong("scenario_values", problem, "MISSING_VALUE")
        return known

    return _PLACEHOLDER.sub(value, text)


def _wrong(name: str, problem: str, reason: str) -> InvalidArgument:
    return InvalidArgument(
        problem, reason=reason, fields=[FieldError(f"parameters.{name}", problem)]
    )
