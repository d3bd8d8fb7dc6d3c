"""Daily generation by all shards, each for its own users."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from heliograph.candidate.v1alpha1 import generating_pb2, sharding_pb2

from services.candidate.orders import Order, shard_of
from services.candidate.progress import Made, Saving
from services.candidate.shards.client import Question, Shards
from services.runtime.errors import NotFound

Part = generating_pb2.GenerateDailyResponse


class MergedReport:
    """How far the shards are together. A `Report`."""

    def __init__(self, parts: Mapping[int, Part], *, done: bool) -> None:
        """`parts`: by shard, what it told last."""
        self._parts = list(parts.values())
        self._done = done

    @property
    def users(self) -> int:
        """Users finished."""
        return sum(part.user_count for part in self._parts)

    @property
    def total(self) -> int:
        """Users in all, as far as the shards have told."""
        return sum(part.total_user_count for part in self._parts)

    @property
    def done(self) -> bool:
        """All are done."""
        return self._done

    @property
    def stages(self) -> Mapping[str, float]:
        """Seconds by stage, of all shards together."""
        found: dict[str, float] = {}
        for part in self._parts:
            for stage in part.stages:
                seconds = stage.wall_time.ToTimedelta().total_seconds()
                found[stage.stage] = found.get(stage.stage, 0.0) + seconds
        return found

    @property
    def made(self) -> Mapping[str, Made]:
        """By source."""
        return {
            name: Made(
                sum(each.proposed_count for each in told),
                sum(each.accepted_count for each in told),
                sum(each.failed_user_count for each in told),
            )
            for name, told in self._sources().items()
        }

    def savings(self) -> Mapping[str, Saving]:
        """By source; the errors of shards are independent."""
        return {
            name: Saving(
                sum(each.asked_user_count for each in told),
                sum(each.skipped_user_count for each in told),
                sum(each.lost_count for each in told),
                sum(each.lost_count_error**2 for each in told) ** 0.5,
                sum(each.ask_time.ToTimedelta().total_seconds() for each in told),
                sum(each.saved_time.ToTimedelta().total_seconds() for each in told),
            )
            for name, told in self._sources().items()
        }

    def _sources(self) -> dict[str, list[generating_pb2.SourceProgress]]:
        found: dict[str, list[generating_pb2.SourceProgress]] = {}
        for part in self._parts:
            for source in part.sources:
                found.setdefault(source.source, []).append(source)
        return found


class ShardedGenerator:
    """Runs the generation of all shards at once. When one fails, the run fails with its error;
    what is committed stands, and the next run of the day goes on from there."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def run(self, order: Order) -> AsyncIterator[MergedReport]:
        """As `Generator.run`."""
        await self._shards.exchange()
        question, orders = self._shards.question(), self._orders(order)
        streams = {shard: _stream(question, shard, asked) for shard, asked in orders.items()}
        parts: dict[int, Part] = {}
        waiting = {asyncio.ensure_future(_next(streams[shard])): shard for shard in streams}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    shard, told = waiting.pop(task), task.result()
                    if told is not None:
                        parts[shard] = told.progress
                        waiting[asyncio.ensure_future(_next(streams[shard]))] = shard
                if waiting and parts:
                    yield MergedReport(parts, done=False)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if not parts:
            raise NotFound("none of the users is known", reason="UNKNOWN_USER")
        yield MergedReport(parts, done=True)

    def _orders(self, order: Order) -> dict[int, sharding_pb2.GenerateShardRequest]:
        """By shard; named users go to theirs."""
        users: dict[int, list[str]] = {shard: [] for shard in range(self._shards.count)}
        for name in order.user_ids:
            users[shard_of(name, self._shards.count)].append(name)
        return {
            shard: sharding_pb2.GenerateShardRequest(order=_written(order, named))
            for shard, named in users.items()
            if named or not order.user_ids
        }


def _stream(
    question: Question, shard: int, asked: sharding_pb2.GenerateShardRequest
) -> AsyncIterator[sharding_pb2.GenerateShardResponse]:
    return question.follow(shard, lambda stub: stub.GenerateShard(asked))


def _written(order: Order, users: Sequence[str]) -> generating_pb2.GenerateDailyRequest:
    return generating_pb2.GenerateDailyRequest(
        day=order.day.isoformat(),
        user_ids=users,
        sources=order.sources,
        candidates_per_source=order.per_source,
        shard=order.shard,
        shard_count=order.shard_count,
        ask_all=order.ask_all,
    )


async def _next(
    stream: AsyncIterator[sharding_pb2.GenerateShardResponse],
) -> sharding_pb2.GenerateShardResponse | None:
    """The next part; None at the end, and of a shard that knows none of the users named."""
    try:
        return await anext(stream, None)
    except NotFound:
        return None
