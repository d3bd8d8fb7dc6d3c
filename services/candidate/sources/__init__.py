"""Candidate sources: who might want which item. Pure NumPy and SciPy, no database, no gRPC.

The whole way, as the service and an offline job go it:

    catalogue = Catalogue.build(
        user_ids, item_ids, interaction_users, interaction_items, interaction_weights,
        item_created=created,                                # optional, aware datetimes
    )
    sources = make_sources(SourceInputs(catalogue, prediction, now))  # all registered ones
    chunk = numpy.arange(1000)                                        # rows of user_ids
    proposals = propose(sources, chunk, count=10)
    proposals.users, proposals.items, proposals.scores, proposals.sources   # flat, aligned

`propose` asks each source for at most `count` items a user (never an item the user has interacted
with, nor one in `blocked`), and keeps an item that several sources propose only for the first of
them. Rows are positions in `catalogue.user_ids` and `catalogue.item_ids`.
"""

from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.registry import SOURCES, SourceInputs, make_sources
from services.candidate.sources.relations import Relations
from services.candidate.sources.source import (
    Predictor,
    Proposals,
    Ranking,
    Source,
    SourceCount,
    propose,
)

__all__ = [
    "SOURCES",
    "Catalogue",
    "Predictor",
    "Proposals",
    "Ranking",
    "Relations",
    "Source",
    "SourceCount",
    "SourceInputs",
    "make_sources",
    "propose",
]
