"""A made-up set without timestamps, of the shape of large public ones: topics, popularity and
activity with long tails."""

import numpy as np

from services.candidate.models import Interactions
from services.candidate.sources.arrays import Rows

TOPICS = 60
USER_FOCUS, ITEM_FOCUS = 0.08, 0.1
"""Of the Dirichlet distributions over topics: the smaller, the fewer."""
PER_USER = 37
"""Interactions on average, before repeats are dropped."""
LEAST_PER_USER = 5
KNOWN = 0.8


def made_interactions(users: int, items: int, seed: int) -> tuple[Interactions, Interactions]:
    """Those that are known, and those to be found."""
    random = np.random.default_rng(seed)
    tastes = random.dirichlet(np.full(TOPICS, USER_FOCUS), users)
    popularity = np.minimum(random.zipf(1.5, items), 2_000) ** 0.6
    contents = random.dirichlet(np.full(TOPICS, ITEM_FOCUS), items) * popularity[:, None]
    activity = np.minimum(random.lognormal(3.0, 1.0, users), 800.0)
    counts = LEAST_PER_USER + (activity * (PER_USER - LEAST_PER_USER) / activity.mean()).astype(int)
    drawn = random.multinomial(counts, tastes)
    pairs: list[Rows] = []
    for topic in range(TOPICS):
        owners = np.repeat(np.arange(users), drawn[:, topic])
        share = contents[:, topic] / contents[:, topic].sum()
        pairs.append(owners * items + random.choice(items, len(owners), p=share))
    rows = np.unique(np.concatenate(pairs))
    known = random.random(len(rows)) < KNOWN
    return _interactions(rows[known], items), _interactions(rows[~known], items)


def _interactions(pairs: Rows, items: int) -> Interactions:
    names = [f"u{row}" for row in pairs // items], [f"i{row}" for row in pairs % items]
    return Interactions.of(*names)
