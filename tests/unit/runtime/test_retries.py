"""The budget bounds retries whatever happens; pauses grow and stay below their bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.retries import EARNED_PER_CALL, EARNED_PER_SECOND, RetryBudget, pause_s


class Timer:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_of_retries_ends_when_the_budget_is_spent() -> None:
    budget = RetryBudget(3, Timer())
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]


def test_calls_earn_retries() -> None:
    budget = RetryBudget(1, Timer())
    assert budget.spend()
    for _ in range(round(1 / EARNED_PER_CALL) + 1):
        budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]


def test_time_earns_retries_for_rare_callers() -> None:
    timer = Timer()
    budget = RetryBudget(1, timer)
    assert budget.spend()
    assert not budget.spend()
    timer.now += 1 / EARNED_PER_SECOND
    assert budget.spend()


@given(
    capacity=st.integers(0, 20),
    steps=st.lists(st.sampled_from(["call", "retry", "second"]), max_size=300),
)
def test_retries_never_exceed_what_was_earned(capacity: int, steps: list[str]) -> None:
    timer = Timer()
    budget = RetryBudget(capacity, timer)
    retries, earned = 0, float(capacity)
    for step in steps:
        if step == "call":
            budget.earn()
            earned += EARNED_PER_CALL
        elif step == "second":
            timer.now += 1
            earned += EARNED_PER_SECOND
        else:
            retries += budget.spend()
        assert retries <= earned + 1e-9


@pytest.mark.parametrize("attempt", range(1, 10))
def test_pauses_are_jittered_and_bounded(attempt: int) -> None:
    pauses = [pause_s(attempt) for _ in range(200)]
    bound = min(1.0, 0.02 * 2**attempt)
    assert 0 <= min(pauses) < max(pauses) <= bound
    assert max(pauses) > bound / 2
