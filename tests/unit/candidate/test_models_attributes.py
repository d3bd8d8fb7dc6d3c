"""Attributes as features: what each row has is found column by column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.models.attributes import Attributes

LONG = "Some Words, and words again: thirty"
texts = st.sampled_from([None, "", "a", "1", LONG, ["a", "a", "b"], [], True, 1, 2.0])
numbers = st.sampled_from([None, 1, 2, 3.5, float("nan"), "none", ["a"]])


def tokens(columns: dict[str, list[Any]], row: int) -> set[str]:
    """Row by row, as the columns without ranges say."""
    found = set()
    for name, values in columns.items():
        value = values[row]
        if isinstance(value, list):
            members = [str(each) for each in value]
        elif value is None or value == "":
            members = []
        else:
            members = LONG_WORDS if value == LONG else [str(value)]
        found |= {f"{name}={member}" for member in members}
    return found


LONG_WORDS = ["some", "words", "and", "again", "thirty"]


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=12))
def test_rows_have_the_features_of_their_values(rows: list[tuple[Any, Any]]) -> None:
    columns = {name: [row[k] for row in rows] + [True] for k, name in enumerate(("x", "y"))}
    found = Attributes.of(columns, len(rows) + 1)
    names = list(found.vocabulary.places)
    for row in range(len(rows) + 1):
        own = {names[place] for place in found.table[[row]].indices}
        assert own == tokens(columns, row)
        length = np.sqrt((found.table[[row]].data ** 2).sum())
        assert length == pytest.approx(1.0 if own else 0.0, abs=1e-5)


@given(st.lists(numbers, min_size=1, max_size=12), st.lists(numbers, max_size=5))
def test_numbers_have_ranges_and_unknown_values_nothing(some: list[Any], others: list[Any]) -> None:
    found = Attributes.of({"n": [*some, 1, 2, 3]}, len(some) + 3)
    edges = found.vocabulary.edges["n"]
    table = found.others({"n": others, "unknown": others}, len(others)).table
    for row, value in enumerate(others):
        here = table[[row]].indices
        if isinstance(value, int | float):
            token = f"n=range {np.searchsorted(edges, value)}"
            place = found.vocabulary.places.get(token)
            assert list(here) == ([] if place is None else [place])
        else:
            assert not len(here)
