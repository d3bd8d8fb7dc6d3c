"""From a question to its answer: everybody judged, or only the best searched for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from services.candidate.choosing import Chosen, choose
from services.candidate.criteria import Criteria
from services.candidate.judging import Judged
from services.candidate.questions import (
    Audience,
    BudgetSeen,
    Choice,
    Estimate,
    Omission,
    Page,
    Subject,
)
from services.candidate.retrieval_judging import SearchJudge
from services.candidate.scoring import Scored, Table, UserSearch
from services.candidate.sources.arrays import Floats

BOUNDS = (0.0, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Of the histogram of relevance, which lies near 0 for most."""


@dataclass(frozen=True, eq=False, slots=True)
class Question:
    """A question that is understood: what remains is to compute."""

    subject: Subject
    table: Table
    criteria: Criteria
    ask: Callable[[], Scored | UserSearch]
    horizon: timedelta | None = None
    """As in Audience."""


@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    """A page of an answer, before ids are put to its rows."""

    chosen: Chosen
    relevance: Floats
    """Of the rows chosen."""
    omissions: Mapping[Omission, int]


def answered(question: Question, choice: Choice, page: Page) -> Audience:
    """The answer. A search and a look at everybody give the same one, to the last bit."""
    asked = question.ask()
    if isinstance(asked, UserSearch) and not _needs_everybody(question, choice):
        found = _searched(question, asked, choice, page)
    else:
        asked = asked.scored() if isinstance(asked, UserSearch) else asked
        found = _chosen(question, asked, choice, page)
    table, rows = question.table, found.chosen.rows
    return Audience(
        subject=question.subject,
        ids=[table.ids[row] for row in rows.tolist()],
        scores=found.chosen.scores.tolist(),
        relevance=found.relevance.tolist(),
        counts=table.counts[rows].tolist(),
        warm=asked.warm,
        subject_count=asked.subject_count,
        group_size=asked.group_size,
        more=found.chosen.more,
        omissions=found.omissions,
        budget=question.criteria.budget,
        horizon=question.horizon,
    )


def estimated(question: Question) -> Estimate:
    """How many users there are for an item, and how relevant it is to them."""
    asked = question.ask()
    assert isinstance(asked, UserSearch)
    scored = asked.scored()
    judged = _judged(question, scored)
    return estimate(
        scored.relevance[~np.isneginf(judged.scores)],
        warm=scored.warm,
        subject_count=scored.subject_count,
        omissions=judged.omissions,
        budget=question.criteria.budget,
        horizon=question.horizon,
    )


def estimate(
    relevance: Floats,
    *,
    warm: bool,
    subject_count: int,
    omissions: Mapping[Omission, int],
    budget: BudgetSeen | None,
    horizon: timedelta | None,
) -> Estimate:
    """From the relevance of all users who are left."""
    counts, _ = np.histogram(relevance, BOUNDS)
    deciles = np.quantile(relevance, np.arange(1, 10) / 10).tolist() if len(relevance) else []
    return Estimate(
        user_count=len(relevance),
        expected_interactions=float(relevance.sum(dtype=np.float64)),
        histogram=counts.tolist(),
        bounds=BOUNDS,
        deciles=deciles,
        warm=warm,
        subject_count=subject_count,
        omissions=omissions,
        budget=budget,
        horizon=horizon,
    )


def _needs_everybody(question: Question, choice: Choice) -> bool:
    """Whether the answer depends on more than the best: who is missing is to be counted, or those
    of a group push each other down, however far down they stand."""
    return choice.count_omissions or question.criteria.spread is not None


def _searched(question: Question, search: UserSearch, choice: Choice, page: Page) -> _Found:
    judge = SearchJudge(
        question.criteria.judge, search.query.relevance, question.table.ids, page.after
    )
    best = search.best(judge, choice.count + 1)
    kept = slice(choice.count)
    chosen = Chosen(best.rows[kept], best.values[kept], len(best.rows) > choice.count)
    return _Found(chosen, search.query.relevance(best.scores[kept]), {})


def _chosen(question: Question, scored: Scored, choice: Choice, page: Page) -> _Found:
    judged = _judged(question, scored)
    ids, spread = question.table.ids, question.criteria.spread
    chosen = choose(judged.scores, ids, choice.count, after=page.after, spread=spread)
    omissions = judged.omissions if choice.count_omissions else {}
    return _Found(chosen, scored.relevance[chosen.rows], omissions)


def _judged(question: Question, scored: Scored) -> Judged:
    return question.criteria.judge.judge(np.arange(len(scored.relevance)), scored.relevance)
