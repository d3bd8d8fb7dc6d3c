"""Fits the model that the index serves: the quick form of what `heliograph candidate fit` makes."""

import numpy as np
from threadpoolctl import threadpool_limits

from services.candidate.index.tables import Tables
from services.candidate.models import CandidateModel, FitOptions, fit


def fit_model(tables: Tables, *, seed: int, threads: int = 1) -> CandidateModel:
    """Fit on all that is known. `threads`: of the linear algebra, 0: all cores. Raises FitError
    when nothing is liked."""
    users, items = (
        entities.columns.lists(np.arange(len(entities.ids)))
        for entities in (tables.users, tables.items)
    )
    with threadpool_limits(threads or None):
        return fit(tables.interactions, FitOptions(effort="quick", seed=seed), users, items)
