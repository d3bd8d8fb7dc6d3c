"""The items of events in order, by the shards of their users."""

from collections.abc import Sequence

from heliograph.candidate.v1alpha1 import sharding_pb2

from services.candidate.item_ranking import Items, RankedItems
from services.candidate.orders import shard_of
from services.candidate.shards.client import Shards
from services.runtime import metrics
from services.runtime.errors import DomainError
from services.runtime.logs import Logger
from services.runtime.together import together


class ShardedRanker:
    """Events of users whose shard doesn't answer keep their items as they are, as those of a user
    of whom nothing is known: publishing and reading pools don't wait for a shard."""

    def __init__(self, shards: Shards, log: Logger) -> None:
        self._shards = shards
        self._log = log
        self._unranked = metrics.counter(
            "candidate", "events_unranked", "", "Events whose items a missing shard left as given."
        )

    async def rank(self, events: Sequence[Items]) -> list[RankedItems]:
        """See `ItemRanker`."""
        places: dict[int, list[int]] = {}
        for place, (user, _) in enumerate(events):
            places.setdefault(shard_of(user, self._shards.count), []).append(place)
        found = [RankedItems(items, 0.0) for _, items in events]

        async def ask(shard: int, own: Sequence[int]) -> None:
            ranked = await self._asked(shard, [events[place] for place in own])
            for place, one in zip(own, ranked, strict=True):
                found[place] = one

        await together([ask(shard, own) for shard, own in places.items()])
        return found

    async def _asked(self, shard: int, events: Sequence[Items]) -> list[RankedItems]:
        request = sharding_pb2.RankEventItemsRequest()
        for user, items in events:
            request.events.add(user_id=user, item_ids=items)
        try:
            answer = await self._shards.ask(shard, lambda stub: stub.RankEventItems(request))
        except DomainError as error:
            self._unranked.inc(len(events))
            self._log.warning("items of events are not ranked", shard=shard, problem=str(error))
            return [RankedItems(items, 0.0) for _, items in events]
        return [RankedItems(tuple(each.item_ids), each.score) for each in answer.events]
