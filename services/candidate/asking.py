"""What handlers ask of a user index, whether it is in this process or in shards."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from services.candidate.orders import Order
from services.candidate.progress import Report
from services.candidate.questions import Audience, Choice, Estimate, NewItem, Page


class Answers(Protocol):
    """Recommendations; see `Audiences` for what each means and raises."""

    async def users_for_item(self, item_id: str, choice: Choice, page: Page) -> Audience:
        """Users for a stored item."""

    async def users_for_new_item(self, item: NewItem, choice: Choice, page: Page) -> Audience:
        """Users for an item that is not stored."""

    async def estimate(self, item_id: str, choice: Choice, page: Page) -> Estimate:
        """How many users a stored item may interest."""

    async def estimate_new(self, item: NewItem, choice: Choice, page: Page) -> Estimate:
        """How many users an item that is not stored may interest."""

    async def items_for_user(self, user_id: str, choice: Choice, page: Page) -> Audience:
        """Items for a user."""

    async def users_like_user(
        self, user_id: str, choice: Choice, page: Page, *, reciprocal: bool
    ) -> Audience:
        """Users alike to a user."""

    async def items_for_segment(
        self, user_ids: Sequence[str], segment_filter: str, choice: Choice, page: Page
    ) -> Audience:
        """Items for the users named, or those that match."""


class DailyGeneration(Protocol):
    """The daily generation; see `Generator`."""

    def run(self, order: Order) -> AsyncIterator[Report]:
        """Generate; tells how far it is, the last time with `done`."""
