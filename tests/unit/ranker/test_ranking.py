"""Runs of the model, and what must not be imported to serve it."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.ranker.backend import MOST_EVENTS, MOST_USERS
from services.ranker.ranking import micro_batches


@given(st.integers(1, 300), st.integers(0, 400), st.integers(0, 2**32 - 1))
def test_runs_cover_each_event_of_chosen_users_once(users: int, events: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    user_row = draw.integers(users, size=events)
    chosen = draw.random(users) < 0.7
    seen: list[int] = []
    for rows, index in micro_batches(user_row, chosen):
        assert len(rows) <= MOST_USERS
        assert (np.diff(rows) > 0).all()
        assert len(index) <= MOST_EVENTS
        assert set(user_row[index]) == set(rows.tolist())
        seen += index.tolist()
    assert sorted(seen) == np.flatnonzero(chosen[user_row]).tolist()


def test_a_user_with_very_many_events_stands_in_several_runs() -> None:
    user_row = np.repeat([0, 1, 2], [5, 2 * MOST_EVENTS + 3, 5])
    runs = list(micro_batches(user_row, np.ones(3, bool)))
    assert [rows.tolist() for rows, _ in runs] == [[0], [1], [1], [1, 2]]
    assert np.concatenate([index for _, index in runs]).tolist() == list(range(len(user_row)))


def test_serving_does_not_import_torch() -> None:
    script = (
        "import sys, services.ranker.bind, services.ranker.training.log\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "sys.exit(bool(loaded & {'torch', 'onnx', 'onnxscript'}))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
