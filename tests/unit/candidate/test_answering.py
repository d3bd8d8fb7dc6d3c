"""Searching for the best against a look at everybody: the same answers, page by page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate import retrieval, scoring
from services.candidate.answering import Question, answered, estimated
from services.candidate.budget_columns import BudgetColumns
from services.candidate.choosing import Spread
from services.candidate.criteria import Criteria
from services.candidate.expressions import compile_booster, compile_filter
from services.candidate.index import IndexState
from services.candidate.index.prediction import Prediction, Unfitted
from services.candidate.judging import Judge
from services.candidate.questions import (
    Audience,
    BudgetUse,
    Choice,
    Direction,
    NewItem,
    Page,
    Place,
    Rotation,
    Subject,
)
from services.candidate.rotation import Recent
from services.candidate.scoring import Scored, Table, UserSearch
from services.candidate.sources import Catalogue
from tests.unit.candidate.people import BOOSTERS, FILTERS, NOW, people
from tests.unit.candidate.predicted import predicted

USERS, ITEMS = 400, 12
COLUMNS = people(USERS, 3)
FILTER_PROGRAMS = {text: compile_filter(text, COLUMNS.schema) for text in FILTERS}
BOOSTER_PROGRAMS = {text: compile_booster(text, COLUMNS.schema) for text in BOOSTERS}
SUBJECT = Subject(Direction.USERS_TO_ITEM, "i")


@cache
def state_of(model: str) -> IndexState:
    """Item 11 has no interactions; every other user is another's twin, with equal scores."""
    random = np.random.default_rng(5)
    liked = np.repeat(
        random.random((USERS // 2, ITEMS)) < random.random((USERS // 2, 1)), 2, axis=0
    )
    liked[:, 11] = False
    users, items = np.nonzero(liked)
    names = [f"u{n:03}" for n in range(USERS)]
    catalogue = Catalogue.build(
        names, [f"i{n:02}" for n in range(ITEMS)], users, items, np.ones(len(users))
    )
    fitted = model == "fitted"
    prediction: Prediction | Unfitted = predicted(catalogue) if fitted else Unfitted(catalogue)
    return Mock(spec=IndexState, catalogue=catalogue, prediction=prediction)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BLOCK", 32)
    monkeypatch.setattr(retrieval, "JUDGED_AT_ONCE", 40)
    monkeypatch.setattr(retrieval, "JUDGED_FIRST", 2)


def budgets(catalogue: Catalogue, random: np.random.Generator) -> BudgetColumns:
    drawn = random.integers(0, 4, (4, USERS))
    channels, remaining, caps = drawn[:3].astype(np.uint8)
    waiting = drawn[3].astype(np.uint16)
    return BudgetColumns(catalogue.user_ids, channels, remaining, caps, waiting, 3, NOW)


def recent(catalogue: Catalogue, random: np.random.Generator) -> Recent:
    names = random.choice(np.array(catalogue.user_ids), 30, replace=False).tolist()
    times = {name: NOW - timedelta(minutes=int(random.integers(0, 90))) for name in names}
    rotation = Rotation(float(random.choice([0.3, 1.0])), timedelta(hours=1))
    return Recent.build(times, catalogue.user_rows, rotation, NOW)


@dataclass(frozen=True)
class Asked:
    """A question in short."""

    item: int
    """The one behind the last is not stored."""
    count: int
    include_interacted: bool
    min_relevance: float
    filter: str
    booster: str
    use: BudgetUse
    rotated: bool
    strength: float
    """Of the spread; 0: none."""
    seed: int


asked_ones = st.builds(
    Asked,
    st.integers(0, ITEMS),
    st.integers(1, 60),
    st.booleans(),
    st.sampled_from([0.0, 1e-4, 0.02, 0.2, 1.0]),
    st.sampled_from(FILTERS),
    st.sampled_from(BOOSTERS),
    st.sampled_from(BudgetUse),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 0.4]),
    st.integers(0, 1000),
)


def question_of(state: IndexState, asked: Asked) -> Question:
    random, catalogue = np.random.default_rng(asked.seed), state.catalogue
    judge = Judge(
        columns=COLUMNS,
        moment=NOW,
        min_relevance=asked.min_relevance,
        filter=FILTER_PROGRAMS[asked.filter],
        booster=BOOSTER_PROGRAMS[asked.booster],
        recent=recent(catalogue, random) if asked.rotated else None,
        budgets=None if asked.use is BudgetUse.OFF else budgets(catalogue, random),
        budget_use=asked.use,
    )

    def ask() -> UserSearch:
        if asked.item == ITEMS:
            return scoring.users_for_new_item(state, NewItem("new", b"", None))
        known = asked.include_interacted
        return scoring.users_for_item(state, asked.item, include_interacted=known)

    spread = Spread(COLUMNS, "country", asked.strength) if asked.strength else None
    criteria = Criteria(judge, spread, None)
    return Question(SUBJECT, table_of(state), criteria, ask, state.prediction.horizon)


def table_of(state: IndexState) -> Table:
    return Table(state.catalogue.user_ids, state.catalogue.user_counts, COLUMNS)


def pages(question: Question, choice: Choice, most: int) -> list[Audience]:
    found: list[Audience] = []
    after = None
    while len(found) < most and (not found or found[-1].more):
        found.append(answered(question, choice, Page("r", NOW, len(found), after)))
        if found[-1].ids:
            after = Place(found[-1].scores[-1], found[-1].ids[-1])
    return found


@pytest.mark.parametrize("model", ["fitted", "unfitted"])
@settings(deadline=None)
@given(asked_ones)
def test_a_search_finds_what_judging_everybody_finds(model: str, asked: Asked) -> None:
    state = state_of(model)
    question = question_of(state, asked)
    counted = pages(question, Choice(count=asked.count), 4)
    searched = pages(question, Choice(count=asked.count, count_omissions=False), 4)
    assert [replace(page, omissions={}) for page in counted] == searched
    if asked.item < ITEMS and not asked.include_interacted:
        catalogue = state.catalogue
        known = {catalogue.user_ids[row] for row in catalogue.by_item[[asked.item]].indices}
        assert not known & {name for page in searched for name in page.ids}
    if not counted[0].more:
        assert sum(counted[0].omissions.values()) + len(counted[0].ids) == USERS


@pytest.mark.parametrize("counted", [True, False])
def test_an_answer_tells_how_far_ahead_its_model_looks(counted: bool) -> None:
    """A week, an eighth of a short time, and nothing without times or without a model."""
    asked = Asked(2, 3, True, 0.0, FILTERS[0], BOOSTERS[0], BudgetUse.OFF, False, 0.0, 0)
    state = state_of("fitted")
    fitted = state.prediction
    assert isinstance(fitted, Prediction)
    untimed = replace(fitted.part, model=replace(fitted.model, clock=None))
    predictions: dict[Prediction | Unfitted, timedelta | None] = {
        fitted: timedelta(days=7),
        replace(fitted, part=untimed): None,
        Unfitted(state.catalogue): None,
    }
    for prediction, horizon in predictions.items():
        told = Mock(spec=IndexState, catalogue=state.catalogue, prediction=prediction)
        question = question_of(told, asked)
        choice = Choice(count=3, count_omissions=counted)
        assert answered(question, choice, Page("r", NOW)).horizon == horizon
        assert estimated(question).horizon == horizon
    short = predicted(state.catalogue, days=16).horizon
    assert short is not None
    assert timedelta(days=1.9) < short <= timedelta(days=2)


def test_a_search_looks_at_few() -> None:
    """So that the test above compares two ways, and not one with itself."""
    state = state_of("fitted")
    asked: list[int] = []

    class Counting(Judge):
        def judge(self, rows: np.ndarray, relevance: np.ndarray) -> object:
            asked.append(len(rows))
            return super().judge(rows, relevance)

    judge = Counting(COLUMNS, NOW, 0.0, None, None, None, None, BudgetUse.OFF)

    def ask() -> Scored | UserSearch:
        return scoring.users_for_item(state, 2, include_interacted=True)

    question = Question(SUBJECT, table_of(state), Criteria(judge, None, None), ask)
    answered(question, Choice(count=3, count_omissions=False), Page("r", NOW))
    assert 0 < sum(asked) < USERS / 2
    asked.clear()
    answered(question, Choice(count=3), Page("r", NOW))
    assert asked == [USERS]
