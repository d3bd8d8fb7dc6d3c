"""Pauses of retries and of loops."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pacer.backoff import Pauses, RetryRule
from services.pacer.messages import Outcome

RULE = RetryRule(timedelta(seconds=5), timedelta(seconds=60), timedelta(hours=1), 100)


@given(st.integers(1, 99), st.sampled_from([Outcome.TEMPORARY, Outcome.THROTTLED]), st.text())
def test_pause_doubles_up_to_the_longest_with_half_jitter(
    attempt: int, outcome: Outcome, key: str
) -> None:
    first = RULE.throttled if outcome is Outcome.THROTTLED else RULE.first
    full = min(first.total_seconds() * 2.0 ** (attempt - 1), 3600.0)
    pause = RULE.pause(outcome, key, attempt)
    assert pause is not None
    assert full / 2 - 1e-5 <= pause.total_seconds() <= full + 1e-5
    assert pause == RULE.pause(outcome, key, attempt)


def test_jitter_spreads_deliveries() -> None:
    pauses = {RULE.pause(Outcome.TEMPORARY, f"d{number}", 3) for number in range(50)}
    assert len(pauses) == 50


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.UNREACHABLE])
def test_permanent_failures_have_no_further_attempt(outcome: Outcome) -> None:
    assert RULE.pause(outcome, "d", 1) is None


def test_last_attempt_has_no_further_one() -> None:
    assert RULE.pause(Outcome.TEMPORARY, "d", 99) is not None
    assert RULE.pause(Outcome.TEMPORARY, "d", 100) is None


def test_idle_loop_slows_down_and_work_wakes_it() -> None:
    pauses = Pauses(*(timedelta(seconds=s) for s in (1, 4, 9)))
    assert [pauses.idle() for _ in range(4)] == [1, 2, 4, 4]
    assert pauses.worked() == 0
    assert pauses.idle() == 1


def test_held_loop_backs_off_further() -> None:
    pauses = Pauses(*(timedelta(seconds=s) for s in (1, 4, 9)))
    assert [pauses.held(0.0) for _ in range(3)] == [4, 8, 9]
    assert pauses.held(0.5) == 6.75
    pauses.idle()
    assert pauses.held(0.0) == 4
