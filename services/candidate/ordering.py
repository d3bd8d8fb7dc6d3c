"""Where the items of events are put in order for their users."""

from collections.abc import Sequence
from typing import Protocol

from services.candidate.index import IndexView
from services.candidate.item_ranking import Items, RankedItems, rank_items


class ItemRanker(Protocol):
    """Orders the items of events."""

    async def rank(self, events: Sequence[Items]) -> list[RankedItems]:
        """The items of each event, best first; see `rank_items`."""


class IndexRanker:
    """By a user index in this process."""

    def __init__(self, index: IndexView) -> None:
        self._index = index

    async def rank(self, events: Sequence[Items]) -> list[RankedItems]:
        """See `ItemRanker`."""
        if not events:
            return []
        state = self._index.state
        return rank_items(state.catalogue, state.prediction, events)
