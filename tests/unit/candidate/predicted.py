"""A model fitted on a catalogue, for tests of what is made from its predictions."""

import numpy as np

from services.candidate.index.fitting import fit_model
from services.candidate.index.part import Part
from services.candidate.index.prediction import Prediction
from services.candidate.index.tables import Tables
from services.candidate.models import Interactions
from services.candidate.sources import Catalogue

DAY = 86400.0


def predicted(catalogue: Catalogue, seed: int = 0, days: float = 60) -> Prediction:
    """Fitted on the catalogue's interactions, spread over some days."""
    pairs = catalogue.weights.tocoo()
    times = np.random.default_rng(seed).uniform(0, days * DAY, pairs.nnz)
    users, items = pairs.coords
    interactions = Interactions(
        catalogue.user_ids,
        catalogue.item_ids,
        users.astype(np.int64),
        items.astype(np.int64),
        times,
        pairs.data,
    )
    tables = Tables.of(interactions, catalogue.item_created, catalogue.item_live)
    return Prediction.of(Part.of(fit_model(tables, seed=seed)), tables, catalogue)
