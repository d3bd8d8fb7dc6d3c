"""What could be sent: a few candidates for each user and slot, made before anything happens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.known_world.parameters import Parameters
from simulation.known_world.tastes import Tastes

SOURCES = ("collaborative", "popular", "random")


class TooFewItemsError(Exception):
    """The catalogue is too small to send nothing twice for so many days."""


@dataclass(frozen=True, slots=True)
class Offers:
    """Candidates [U, n, K]: U users, n slots, K per slot. No item comes to a user twice."""

    item: NDArray[np.int64]
    """Position in the data's items."""
    source: NDArray[np.int8]
    """Position in SOURCES."""
    score: NDArray[np.float64]
    """The source's, in [0, 1]; 0 for random ones."""
    age_s: NDArray[np.int64]
    """How long before the slot the candidate was made."""


def draw(
    taste: NDArray[np.float64],
    slots: int,
    tastes: Tastes,
    parameters: Parameters,
    random: np.random.Generator,
) -> Offers:
    """Offers for users with these taste scores [U, items].

    Each source takes items without replacement (Gumbel top-k: the collaborative one by taste, the
    popular one by the log of popularity, the random one evenly), then all are spread over the
    slots at random. Raises TooFewItemsError.
    """
    users, items = taste.shape
    wanted = slots * parameters.offers
    if wanted > items:
        raise TooFewItemsError(f"{slots} slots of {parameters.offers} offers need {wanted} items")
    counts = [int(share * wanted) for share in parameters.offer_shares]
    counts.append(wanted - sum(counts))
    keys = (parameters.offer_taste * taste, tastes.popularity[None, :], np.zeros((1, items)))
    taken = np.zeros(taste.shape, np.bool_)
    chosen = []
    for key, count in zip(keys, counts, strict=True):
        noisy = np.where(taken, -np.inf, key + random.gumbel(size=taste.shape))
        best = np.sort(np.argpartition(-noisy, count - 1, axis=1)[:, :count], axis=1)
        np.put_along_axis(taken, best, True, axis=1)
        chosen.append(best)
    item = np.concatenate(chosen, axis=1)
    source = np.repeat(np.arange(len(SOURCES)), counts)
    order = random.permuted(np.tile(np.arange(wanted), (users, 1)), axis=1)
    item = np.take_along_axis(item, order, axis=1).reshape(users, slots, -1)
    source = source[order].reshape(item.shape)
    return Offers(
        item=item,
        source=source.astype(np.int8),
        score=_scores(taste, tastes, parameters, item, source, random),
        age_s=random.integers(60, int(parameters.oldest_offer_h * 3600), item.shape),
    )


def taste_of(taste: NDArray[np.float64], item: NDArray[np.int64]) -> NDArray[np.float64]:
    """Taste scores of the offered items, both [U, n, K], from those of all [U, items]."""
    return taste[np.arange(len(taste))[:, None, None], item]


def _scores(
    taste: NDArray[np.float64],
    tastes: Tastes,
    parameters: Parameters,
    item: NDArray[np.int64],
    source: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.float64]:
    guess = taste_of(taste, item) + random.normal(0, parameters.score_noise, item.shape)
    collaborative = 1 / (1 + np.exp(-(parameters.score_logit + guess)))
    popular = parameters.popular_score * tastes.popularity[item] / tastes.popularity.max()
    return np.select([source == 0, source == 1], [collaborative, popular], 0.0)
