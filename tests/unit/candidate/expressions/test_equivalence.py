"""Columnwise evaluation gives what the library gives row by row: values and errors."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from services.candidate.expressions import Columns, frames, program
from services.candidate.expressions.program import compile_expression
from services.candidate.expressions.values import microseconds
from tests.unit.candidate.expressions.grammar import expressions
from tests.unit.candidate.expressions.reference import FAILED, reference
from tests.unit.candidate.expressions.users import NOW, SCHEMA, USERS, User, table

_SETTINGS = settings(
    max_examples=max(400, settings().max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@contextmanager
def _worked_on(chunk: int, vocabulary: int) -> Iterator[None]:
    """With chunks and vocabularies of another size, so that small tables come the same ways as
    large ones."""
    with (
        mock.patch.object(program, "_CHUNK", chunk),
        mock.patch.object(frames, "_SMALL_VOCABULARY", vocabulary),
    ):
        yield


def _evaluated(text: str, columns: Columns, rows: np.ndarray | None = None) -> list[Any]:
    """The values in the form of `reference`."""
    compiled = compile_expression(text, SCHEMA)
    results: list[Any] = []
    for part, found in compiled.parts(columns, NOW, rows):
        size = part.stop - part.start
        values = (
            found.values.to_pylist()
            if hasattr(found.values, "to_pylist")
            else found.values.tolist()
        )
        errors = [False] if found.errors is None else found.errors.tolist()
        values = values * size if len(values) == 1 else values
        errors = errors * size if len(errors) == 1 else errors
        results += [FAILED if error else v for v, error in zip(values, errors, strict=True)]
    return results


def _plain(value: Any) -> Any:
    """The library's value in our form; NaN is replaced, since it equals nothing."""
    if isinstance(value, datetime):
        return microseconds(value)
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


@_SETTINGS
@given(
    text=expressions(),
    users=USERS,
    chunk=st.sampled_from([1, 3, 65_536]),
    vocabulary=st.sampled_from([0, 256]),
)
def test_values_and_errors_are_those_of_the_library(
    text: str, users: list[User], chunk: int, vocabulary: int
) -> None:
    with _worked_on(chunk, vocabulary):
        found = [_plain(value) for value in _evaluated(text, table(users))]
    expected = [_plain(value) for value in reference(text, users)]
    event(f"errors: {FAILED in expected}")
    assert found == expected
