"""Columnwise evaluation gives what the library gives row by row: values and errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from services.candidate.expressions import frames, program
from tests.unit.candidate.expressions.evaluation import evaluated, expected
from tests.unit.candidate.expressions.grammar import expressions, truths
from tests.unit.candidate.expressions.reference import FAILED
from tests.unit.candidate.expressions.users import USERS, User

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


@_SETTINGS
@given(
    text=st.one_of(expressions(), truths()),
    users=USERS,
    chunk=st.sampled_from([1, 5, 65_536]),
    vocabulary=st.sampled_from([0, 256]),
)
def test_values_and_errors_are_those_of_the_library(
    text: str, users: list[User], chunk: int, vocabulary: int
) -> None:
    with _worked_on(chunk, vocabulary):
        found = evaluated(text, users)
    wanted = expected(text, users)
    event(f"errors: {FAILED in wanted}")
    assert found == wanted
