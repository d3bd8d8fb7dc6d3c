"""Items of events in order of predicted interest, and what an event is worth by them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.item_ranking import best_first, event_scores, rank_items
from services.candidate.sources import Catalogue
from services.candidate.sources.arrays import Floats, Rows
from services.candidate.sources.source import Side

USERS, ITEMS = ["ann", "bob", "new"], ["a", "b", "c", "d", "nobody's"]
SCORES = st.lists(
    st.lists(st.one_of(st.floats(0, 1, width=32), st.just(float("nan"))), max_size=6), max_size=6
)


INTEREST = np.array([[0.9, 0.8, 0.4, 0.2, 0.9], [0.2, 0.4, 0.8, 0.9, 0.9], [0.9] * 5], np.float32)


class Told:
    """Interest as the table says."""

    def scores(self, side: Side, rows: Rows, some: Rows | None = None) -> Floats:
        table = (INTEREST if side == "items" else INTEREST.T)[rows]
        return table if some is None else table[:, some]

    relevance = scores

    def popularity(self, side: Side) -> Floats:
        means: Floats = INTEREST.mean(axis=0 if side == "items" else 1)
        return means

    def calibrated(self, side: Side, rows: Rows, scores: Floats) -> Floats:
        return scores

    def pairs(self, users: Rows, items: Rows) -> Floats:
        found: Floats = INTEREST[users, items]
        return found


def made() -> tuple[Catalogue, Told]:
    """ann likes a, then b, c, d; bob the other way round; nobody knows of `new` and `nobody's`."""
    pairs = [(user, item) for user in ("ann", "bob") for item in "abcd"]
    users, items = zip(*pairs, strict=True)
    return Catalogue.build(USERS, ITEMS, users, items, [1.0] * len(pairs)), Told()


@pytest.mark.parametrize(
    ("user", "items", "expected"),
    [
        ("ann", "dcba", "abcd"),
        ("bob", "abcd", "dcba"),
        ("ann", "d?ba", "a?bd"),  # one that isn't known keeps its place
        ("new", "dacb", "dacb"),
        ("who", "dacb", "dacb"),
        ("ann", "", ""),
    ],
)
def test_each_event_is_in_its_users_order(user: str, items: str, expected: str) -> None:
    others = [("bob", ("a", "d")), (user, tuple(items)), ("ann", ("nobody's", "b", "a"))]
    ranked = rank_items(*made(), others)
    assert [one.item_ids for one in ranked] == [
        ("d", "a"),
        tuple(expected),
        ("nobody's", "a", "b"),
    ]


def test_the_score_is_the_probability_of_interest_in_one_of_the_first_three() -> None:
    (full,) = rank_items(*made(), [("ann", ("d", "c", "b", "a"))])
    interest = INTEREST[0, :3]
    assert full.score == pytest.approx(float(1 - np.prod(1 - interest)), rel=1e-6)
    (unknown, partly) = rank_items(*made(), [("new", ("a",)), ("ann", ("?", "a"))])
    assert unknown.score == 0
    assert partly.score == pytest.approx(float(interest[0]), rel=1e-6)


@given(SCORES)
def test_the_order_keeps_events_together_and_is_worth_most(events: list[list[float]]) -> None:
    lengths = np.array([len(scores) for scores in events], np.int64)
    flat = np.array([score for scores in events for score in scores], np.float32)
    order = best_first(flat, lengths)
    starts = np.cumsum(lengths) - lengths
    for start, length in zip(starts, lengths, strict=True):
        part = order[start : start + length]
        assert sorted(part) == list(range(start, start + length))
        assert all(np.isnan(flat[part]) == np.isnan(flat[start : start + length]))
        known = flat[part][~np.isnan(flat[part])]
        assert all(known[:-1] >= known[1:])
    worth = event_scores(flat[order], lengths)
    assert np.all((worth >= 0) & (worth <= 1))
    assert np.all(worth >= event_scores(flat, lengths) - 1e-6)
    alone = [float(event_scores(np.array(one, np.float32), np.array([len(one)]))[0])
             for one in events]  # fmt: skip
    assert alone == pytest.approx(event_scores(flat, lengths).tolist())
