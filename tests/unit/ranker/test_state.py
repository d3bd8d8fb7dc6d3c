"""The feature state is a function of the set of entries, whatever their order and repetition."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.features import (
    STEPS,
    Channel,
    Entry,
    FeatureState,
    ItemTable,
    Send,
    UserSignals,
    apply,
    decode,
    encode,
    new_entries,
    user_features,
)
from services.ranker.features.state import LEDGER_ROWS
from tests.unit.ranker.entries import START, histories

ITEMS = ItemTable()


@settings(deadline=None, max_examples=60)
@given(histories, st.randoms(use_true_random=False), st.integers(1, 7))
def test_state_depends_on_neither_order_nor_repetition(
    history: list[Entry], order: random.Random, size: int
) -> None:
    expected = apply(FeatureState(), history)
    shuffled = history + order.sample(history, k=len(history) // 2)
    order.shuffle(shuffled)
    state = FeatureState()
    for at in range(0, len(shuffled), size):
        state = apply(state, shuffled[at : at + size])
    assert encode(state) == encode(expected)


@settings(deadline=None, max_examples=40)
@given(histories, st.integers(0, 60))
def test_an_entry_counts_once(history: list[Entry], cut: int) -> None:
    before = apply(FeatureState(), history[:cut])
    after = apply(before, history)
    fresh = new_entries(before, after, history + history)
    assert len(fresh) == len(set(fresh))
    assert new_entries(after, apply(after, history), history) == []
    assert all(entry not in history[:cut] for entry in fresh)


@settings(deadline=None, max_examples=40)
@given(histories)
def test_encoding_keeps_the_state(history: list[Entry]) -> None:
    state = apply(FeatureState(), history)
    assert encode(decode(encode(state))) == encode(state)


@pytest.mark.parametrize("data", [b"", b"hfs1", b"x" * 40, encode(FeatureState()) + b"x"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="feature state"):
        decode(data)


def test_sequences_and_ledger_are_bounded_to_the_newest() -> None:
    sends = [_send(START + minute * 60, minute) for minute in range(LEDGER_ROWS + 500)]
    state = apply(FeatureState(), sends)
    assert len(state.sends) == STEPS
    assert state.sends["time"][0] == sends[-1].time
    assert len(state.ledger) == LEDGER_ROWS


def test_an_entry_past_the_horizon_is_not_counted_again() -> None:
    old, recent = _send(START, 0), _send(START + 30 * 86400, 1)
    state = apply(FeatureState(), [old, recent])
    assert len(state.ledger) == 1
    assert new_entries(state, apply(state, [old]), [old]) == []


def test_windows_count_whole_hours_before_now() -> None:
    hours_ago = [0, 23, 24, 167, 168, 671, 672]
    now = START + 40 * 86400
    sends = [_send(now - hours * 3600, hours) for hours in hours_ago]
    features = user_features([apply(FeatureState(), sends)], [UserSignals()], now, ITEMS)
    assert features["counts"][0, 0].tolist() == [2, 4, 6]


def test_what_happens_after_now_is_not_seen() -> None:
    now = START + 86400
    past, future = _send(now - 10, 1), _send(now + 3600, 2)
    seen = user_features([apply(FeatureState(), [past, future])], [UserSignals()], now, ITEMS)
    alone = user_features([apply(FeatureState(), [past])], [UserSignals()], now, ITEMS)
    for name, array in seen.items():
        np.testing.assert_array_equal(array, alone[name], err_msg=name)


def _send(time: int, number: int) -> Send:
    return Send(time, f"d{number}", Channel.PUSH, "movie.suggestion", ("i1",))
