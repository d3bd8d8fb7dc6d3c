"""Whether the candidates' relevance is what happens: expected and observed interactions."""

from collections.abc import Sequence

import numpy as np

from services.candidate.models import Interactions, Side
from services.candidate.models.model import CandidateModel
from services.candidate.models.windows import Window
from services.candidate.sources.arrays import Floats

Reliability = list[tuple[float, float, float]]
"""For each group: pairs, expected and observed interactions."""


def reliability(model: CandidateModel, window: Window) -> Reliability:
    """Items for the known users, in deciles of predicted activity."""
    scores = model_scores(model, "items")
    seen = np.asarray(window.known.seen.todense()) > 0
    known = np.flatnonzero(np.bincount(window.known.users, minlength=len(seen)))
    pairs = np.isfinite(scores[known]) & ~seen[known]
    relevance = np.where(pairs, model.relevance("items", known, scores[known]), 0)
    met = np.asarray(window.met[known].todense()) > 0
    order = np.argsort(relevance.sum(axis=1), kind="stable")
    return [
        (float(pairs[rows].sum()), float(relevance[rows].sum()), float(met[rows].sum()))
        for rows in np.array_split(order, 10)
    ]


def item_reliability(
    model: CandidateModel, everything: Interactions, window: Window
) -> Reliability:
    """Known users for items: those with interactions at the cut, and those without (new ones, which
    borrow by their attributes)."""
    clock, times = window.clock, everything.times
    assert clock is not None
    assert times is not None
    week = (times >= clock.now) & (times < clock.now + clock.horizon)
    seen = np.asarray(window.known.seen.todense()) > 0
    met = (np.asarray(everything.take(week).seen.todense()) > 0) & ~seen
    scores = model_scores(model, "users")
    relevance = model.relevance("users", np.arange(scores.shape[1]), scores.T).T
    pairs = np.isfinite(scores) & ~seen
    old = seen.any(axis=0)
    return [
        (
            float(pairs[:, items].sum()),
            float(np.where(pairs, relevance, 0)[:, items].sum()),
            float((met & pairs)[:, items].sum()),
        )
        for items in (old, ~old)
    ]


def told(groups: Reliability) -> dict[str, list[float]]:
    """For the report."""
    pairs, expected, observed = zip(*groups, strict=True)
    return {"pairs": list(pairs), "expected": list(expected), "observed": list(observed)}


def summed(parts: Sequence[Reliability]) -> Reliability:
    """Over windows."""
    return [(float(p), float(e), float(o)) for p, e, o in np.sum(parts, axis=0)]


def off(groups: Reliability) -> float:
    """Mean over pairs of the distance of expected from observed in their group, as a share of what
    was observed."""
    total = sum(observed for _, _, observed in groups)
    return sum(abs(expected - observed) for _, expected, observed in groups) / max(total, 1.0)


def model_scores(model: CandidateModel, side: Side) -> Floats:
    """Our scores, users × items."""
    rows = np.arange(len(model.user_ids if side == "items" else model.item_ids))
    table = np.concatenate([scores for _, scores, _ in model.scored(side, rows)])
    return table if side == "items" else table.T
