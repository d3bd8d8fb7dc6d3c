"""One answer from those of several parts of the users. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from heapq import merge
from itertools import chain, islice
from types import MappingProxyType

import numpy as np

from services.candidate.answering import estimate
from services.candidate.choosing import Spread, choose
from services.candidate.expressions import AttributeType, Columns
from services.candidate.expressions.columns import PlainColumn
from services.candidate.questions import (
    Audience,
    BudgetSeen,
    Choice,
    Diversity,
    Estimate,
    Found,
    Omission,
    Page,
    Place,
)
from services.candidate.sources.arrays import Floats

Entry = tuple[float, str, float, int, str]
"""−score, id, relevance, interactions, group."""


def merged(parts: Sequence[Found], count: int) -> Audience:
    """The best `count` of parts that are the best `count` of each, behind the same place."""
    audiences = [part.audience for part in parts]
    entries = list(islice(merge(*map(_entries, parts)), count))
    more = any(part.more for part in audiences) or sum(len(p.ids) for p in audiences) > count
    return _audience(audiences, entries, more=more)


def spread_out(
    parts: Sequence[Found], size: int, count: int, page: Page, diversity: Diversity
) -> Audience | None:
    """The same with a spread, from the best `size` of each part before it, from the beginning;
    None when so many don't suffice. See `choosing`: nothing outside this pool can have more than
    its last score."""
    audiences = [part.audience for part in parts]
    pool = list(islice(merge(*map(_entries, parts)), size))
    left = sum(len(part.ids) for part in audiences) - len(pool)
    complete = not left and not any(part.more for part in audiences)
    chosen = _chosen(pool, count + 1, page.after, diversity)
    settled = all(entry[0] < pool[-1][0] for entry in chosen)
    if not complete and (len(chosen) <= count or not settled):
        return None
    return _audience(audiences, chosen[:count], more=len(chosen) > count)


def matched(
    parts: Sequence[Found], scores: Floats, relevance: Floats, choice: Choice, page: Page
) -> Audience:
    """The best of all whom the parts name, behind the page's place, by scores and relevance of
    their own: of the first part's, then the next one's; −inf is left out."""
    entries = [
        (-score, found[1], relevant, *found[3:])
        for score, relevant, found in zip(
            scores.tolist(), relevance.tolist(), chain(*map(_entries, parts)), strict=True
        )
        if score >= 0.0
    ]
    chosen = _chosen(entries, choice.count + 1, page.after, choice.diversity)
    audiences = [part.audience for part in parts]
    return _audience(audiences, chosen[: choice.count], more=len(chosen) > choice.count)


def estimated(parts: Sequence[tuple[Audience, Floats]]) -> Estimate:
    """From the facts of each part's answer, and the relevance of its users who are left."""
    audiences = [audience for audience, _ in parts]
    return estimate(
        np.concatenate([found for _, found in parts]),
        warm=audiences[0].warm,
        subject_count=audiences[0].subject_count,
        omissions=_omissions(audiences),
        budget=_budget(audiences),
        horizon=audiences[0].horizon,
    )


def _entries(part: Found) -> list[Entry]:
    audience = part.audience
    groups = part.groups or [""] * len(audience.ids)
    return list(
        zip(
            [-score for score in audience.scores],
            audience.ids,
            audience.relevance,
            audience.counts,
            groups,
            strict=True,
        )
    )


def _audience(parts: Sequence[Audience], entries: Sequence[Entry], *, more: bool) -> Audience:
    return replace(
        parts[0],
        ids=[entry[1] for entry in entries],
        scores=[-entry[0] for entry in entries],
        relevance=[entry[2] for entry in entries],
        counts=[entry[3] for entry in entries],
        more=more,
        omissions=_omissions(parts),
        budget=_budget(parts),
    )


def _omissions(parts: Sequence[Audience]) -> dict[Omission, int]:
    found: Counter[Omission] = Counter()
    for part in parts:
        found.update(part.omissions)
    return dict(found)


def _budget(parts: Sequence[Audience]) -> BudgetSeen | None:
    """The oldest; unknown when a part doesn't know it."""
    seen = [part.budget for part in parts if part.budget is not None]
    if not seen:
        return None
    ages = [each.age for each in seen if each.age is not None]
    return BudgetSeen(max(ages) if len(ages) == len(parts) else None)


def _chosen(
    entries: Sequence[Entry], count: int, after: Place | None, diversity: Diversity | None
) -> list[Entry]:
    """The best `count` behind a place, with the scores that the spread leaves them."""
    by_id = sorted(entries, key=lambda entry: entry[1])
    scores = -np.array([entry[0] for entry in by_id], np.float32)
    spread = None
    if diversity is not None:
        spread = _spread([entry[4] for entry in by_id], diversity.strength)
    ids = [entry[1] for entry in by_id]
    chosen = choose(scores, ids, count, after=after, spread=spread)
    return [
        (-score, *by_id[row][1:])
        for row, score in zip(chosen.rows.tolist(), chosen.scores.tolist(), strict=True)
    ]


def _spread(groups: Sequence[str], strength: float) -> Spread:
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    column = PlainColumn(np.array([numbers[group] for group in groups], np.int64), None)
    columns = Columns(
        len(groups),
        MappingProxyType({"group": AttributeType.INT}),
        MappingProxyType({"group": column}),
        MappingProxyType({}),
    )
    return Spread(columns, "group", strength)
