"""Collaborative filtering in both directions, calibrated, as the daily job and `heliograph
candidate` use it.

    model = fit(Interactions.of(user_ids, item_ids, seconds))
    found = model.recommend("users", ["item-7"], 100, exclude_seen=True)
    [model.user_ids[row] for row in found.rows[0]], found.relevance[0]
    save(model, folder); load(folder)

    index = model.index("users")                       # exact search over vectors, in a service
    index.vectors @ index.queries(profiles).T + index.bias[:, None]
"""

from services.candidate.models.folder import ModelFolderError, load, save
from services.candidate.models.interactions import Interactions
from services.candidate.models.model import (
    CandidateModel,
    FitError,
    FitOptions,
    Recommendations,
    Side,
    fit,
)
from services.candidate.models.rankers import FactorRanker
from services.candidate.models.reading import (
    InputError,
    aligned,
    read_attributes,
    read_ids,
    read_interactions,
    read_ties,
)
from services.candidate.models.selection import Effort
from services.candidate.models.ties import TIES, tie_lists
from services.candidate.models.windows import Split

__all__ = [
    "TIES",
    "CandidateModel",
    "Effort",
    "FactorRanker",
    "FitError",
    "FitOptions",
    "InputError",
    "Interactions",
    "ModelFolderError",
    "Recommendations",
    "Side",
    "Split",
    "aligned",
    "fit",
    "load",
    "read_attributes",
    "read_ids",
    "read_interactions",
    "read_ties",
    "save",
    "tie_lists",
]
