"""Sums of two models' scores."""

import numpy as np
import pytest

from services.ranker.comparison import Comparison, compared, rank_correlation
from services.ranker.features import HEADS, Head


def scores(*opens: float) -> np.ndarray:
    found = np.zeros((len(opens), len(HEADS)), np.float32)
    found[:, HEADS.index(Head.PUSH_OPEN)] = opens
    return found


def test_sums_of_a_call_add_up() -> None:
    found = compared(scores(0.25, 0.5, 0.75), scores(0.5, 0.5, 1.0), [Head.PUSH_OPEN])
    assert found.keys() == {Head.PUSH_OPEN}
    first = found[Head.PUSH_OPEN]
    assert (first.events, first.served, first.shadow, first.difference) == (3, 1.5, 2.0, 0.5)
    assert first.calls == 1
    both = first + Comparison(2, 1.0, 1.0, 0.5, 1, 1.0)
    assert (both.events, both.served, both.shadow, both.difference) == (5, 2.5, 3.0, 1.0)
    assert (both.calls, both.correlation) == (2, first.correlation + 1.0)


def test_rows_without_numbers_and_calls_without_an_order_do_not_count() -> None:
    one = compared(scores(0.25, np.nan, 0.5), scores(np.nan, 0.5, 0.75), [Head.PUSH_OPEN])
    assert one[Head.PUSH_OPEN] == Comparison(1, 0.5, 0.75, 0.25, 0, 0.0)
    none = compared(scores(np.nan), scores(0.5), [Head.PUSH_OPEN, Head.APP_DELETE])
    assert set(none.values()) == {Comparison()}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3], [10, 20, 21], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 2, 3], [1, 2, 3, 4], 0.9486833),  # 3 / sqrt(10), as scipy.stats.spearmanr
        ([1, 1, 1], [1, 2, 3], None),
        ([1], [1], None),
        ([], [], None),
    ],
)
def test_rank_correlation(a: list[float], b: list[float], expected: float | None) -> None:
    assert rank_correlation(np.array(a, float), np.array(b, float)) == pytest.approx(expected)
