"""Fits the model that the index serves: the quick form of what `heliograph candidate fit` makes."""

import numpy as np
from threadpoolctl import threadpool_limits

from services.candidate.index.placing import contents_of
from services.candidate.index.tables import Tables
from services.candidate.models import CandidateModel, FitOptions, fit


def fit_model(tables: Tables, *, seed: int, threads: int = 1) -> CandidateModel:
    """Fit on all that is known. `threads`: of the linear algebra, 0: all cores. Raises FitError
    when nothing is liked."""
    contents = contents_of(tables)
    users, _ = contents["users"].of(np.arange(len(tables.users.ids)))
    items, _ = contents["items"].of(np.arange(len(tables.items.ids)))
    with threadpool_limits(threads or None):
        return fit(tables.interactions, FitOptions(effort="quick", seed=seed), users, items)
