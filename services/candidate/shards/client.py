"""The front's side of the shards: asks one or all, and refuses what doesn't fit together."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import grpc
import numpy as np
import numpy.typing as npt
from google.rpc import status_pb2
from heliograph.candidate.v1alpha1 import sharding_pb2, sharding_pb2_grpc

from services.runtime.channels import Peers
from services.runtime.errors import (
    STATUS_DETAILS_KEY,
    DeadlineExceeded,
    DomainError,
    FailedPrecondition,
    Unavailable,
    error_of,
)
from services.runtime.together import together

Stub: TypeAlias = "sharding_pb2_grpc.ShardServiceAsyncStub"
ALONE = "SHARD_ALONE"
OTHER_ITEMS = "OTHER_ITEMS"


class Marked(Protocol):
    """An answer that says which shard gave it."""

    @property
    def mark(self) -> sharding_pb2.ShardMark:
        """The shard."""


Answer = TypeVar("Answer", bound=Marked)
Sent = TypeVar("Sent")


class Shards:
    """All shards of one index. A failure names the shard; there is no answer that one is missing
    from."""

    def __init__(self, peers: Peers, addresses: Sequence[str]) -> None:
        """`addresses`: `host:port` of shard 0, 1, …"""
        self.addresses = tuple(addresses)
        self._stubs: list[Stub] = [
            sharding_pb2_grpc.ShardServiceStub(peers.channel_to(f"shard-{shard}", address))
            for shard, address in enumerate(addresses)
        ]
        self._exchanging = asyncio.Lock()
        self._exchanges = 0
        self._reading = asyncio.Lock()
        self._readings = 0

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.addresses)

    def question(self) -> "Question":
        """For answers that are made into one."""
        return Question(self)

    async def ask(self, shard: int, call: Callable[[Stub], Awaitable[Answer]]) -> Answer:
        """Ask one shard. Raises its domain errors, Unavailable when it can't be reached, and
        FailedPrecondition when another one answers at its address."""

        async def asked() -> Answer:
            try:
                return await call(self._stubs[shard])
            except grpc.aio.AioRpcError as error:
                raise self._domain_error(shard, error) from error

        try:
            answer = await asked()
        except Unavailable as error:
            if error.reason != ALONE:
                raise
            await self.exchange()
            answer = await asked()
        self._require(shard, answer.mark)
        return answer

    async def stream(
        self, shard: int, call: Callable[[Stub], AsyncIterable[Answer]]
    ) -> AsyncIterator[Answer]:
        """The same for answers in parts."""
        began = False
        for last in (False, True):
            try:
                async for part in call(self._stubs[shard]):
                    began = True
                    self._require(shard, part.mark)
                    yield part
                return
            except grpc.aio.AioRpcError as error:
                known = self._domain_error(shard, error)
                if began or last or known.reason != ALONE:
                    raise known from error
            await self.exchange()

    async def exchange(self) -> None:
        """Tell each shard how many interactions the others have with every item. Raises as `ask`,
        and Unavailable when the shards have read different items."""
        before = self._exchanges
        async with self._exchanging:
            if self._exchanges == before:  # else another call has done it meanwhile
                counts = await self._counts(refresh=False)
                if not _one_table(counts):
                    counts = await self._counts(refresh=True)
                await self._put_others(counts)
                self._exchanges += 1

    async def read_folder(self) -> None:
        """Have each shard read its folder, and what else is new, now. Raises as `ask`."""
        before = self._readings
        async with self._reading:
            if self._readings == before:
                request = sharding_pb2.GetShardRequest(refresh=True)
                asked = [
                    self.ask(shard, lambda stub: stub.GetShard(request))
                    for shard in range(self.count)
                ]
                await together(asked)
                self._readings += 1

    async def _counts(self, *, refresh: bool) -> list[sharding_pb2.ItemCounts]:
        request = sharding_pb2.CountItemsRequest(refresh=refresh)
        found = await self.question().all(lambda stub, _: stub.CountItems(request))
        return [each.counts for each in found]

    async def _put_others(self, counts: Sequence[sharding_pb2.ItemCounts]) -> None:
        if not _one_table(counts):
            raise Unavailable("the shards have read different items", reason=OTHER_ITEMS)
        interactions = _of_others([each.interactions for each in counts])
        likes = _of_others([each.likes for each in counts])

        def put(stub: Stub, shard: int) -> Awaitable[sharding_pb2.PutOtherCountsResponse]:
            others = sharding_pb2.ItemCounts(
                item_table=counts[shard].item_table,
                interactions=interactions[shard],
                likes=likes[shard],
            )
            return stub.PutOtherCounts(sharding_pb2.PutOtherCountsRequest(others=others))

        await self.question().all(put)

    def _require(self, shard: int, mark: sharding_pb2.ShardMark) -> None:
        if (mark.shard, mark.shard_count) == (shard, self.count):
            return
        raise FailedPrecondition(
            f"{self.addresses[shard]} is shard {mark.shard} of {mark.shard_count}, not {shard} of "
            f"{self.count}; start all shards and the front with one number of shards",
            reason="WRONG_SHARD",
            metadata=self._facts(shard),
        )

    def _domain_error(self, shard: int, error: grpc.aio.AioRpcError) -> DomainError:
        known, code = _rich_error(error), error.code()
        if known is not None and not isinstance(known, Unavailable):
            return known
        if known is not None and known.reason == ALONE:
            return known
        who = f"shard {shard} of {self.count} at {self.addresses[shard]}"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"{who} did not answer in time", metadata=self._facts(shard))
        problem = f" ({known.message})" if known is not None else f" ({code.name})"
        return Unavailable(
            f"{who} does not answer{problem}",
            reason="SHARD_UNAVAILABLE",
            metadata=self._facts(shard),
        )

    def _facts(self, shard: int) -> dict[str, str]:
        return {"shard": str(shard), "address": self.addresses[shard]}


class Question:
    """What shards are asked for one answer: all have to serve one model."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._model: str | None = None

    async def one(self, shard: int, call: Callable[[Stub], Awaitable[Answer]]) -> Answer:
        """Ask one shard."""
        answer = await self._shards.ask(shard, call)
        await self._require_model(shard, answer.mark.model)
        return answer

    async def all(self, call: Callable[[Stub, int], Awaitable[Answer]]) -> list[Answer]:
        """Ask all shards at once; `call` is told which one."""

        def asked(shard: int) -> Coroutine[Any, Any, Answer]:
            return self.one(shard, lambda stub: call(stub, shard))

        return await together([asked(shard) for shard in range(self._shards.count)])

    async def follow(
        self, shard: int, call: Callable[[Stub], AsyncIterable[Answer]]
    ) -> AsyncIterator[Answer]:
        """An answer in parts, of one shard."""
        async for part in self._shards.stream(shard, call):
            await self._require_model(shard, part.mark.model)
            yield part

    @asynccontextmanager
    async def conversation(
        self, shard: int, call: Callable[[Stub, AsyncIterator[Sent]], AsyncIterable[Answer]]
    ) -> AsyncIterator["Conversation[Sent, Answer]"]:
        """Talk with one shard; it ends with the block."""
        steps: asyncio.Queue[Sent | None] = asyncio.Queue()

        async def told() -> AsyncIterator[Sent]:
            while (step := await steps.get()) is not None:
                yield step

        try:
            yield Conversation(steps, self.follow(shard, lambda stub: call(stub, told())))
        finally:
            steps.put_nowait(None)

    async def _require_model(self, shard: int, model: str) -> None:
        """After another one is found, all shards have read their folders: the same question may
        well be answered then."""
        if self._model is None:
            self._model = model
        if model != self._model:
            await self._shards.read_folder()
            raise Unavailable(
                f"shard {shard} at {self._shards.addresses[shard]} served another model than the "
                "others; all have to read the same HELIOGRAPH_CANDIDATE_MODEL_FOLDER",
                reason="SHARD_MODELS_DIFFER",
                metadata={"shard": str(shard), "model": model},
            )


class Conversation(Generic[Sent, Answer]):
    """With one shard."""

    def __init__(self, steps: asyncio.Queue[Sent | None], answers: AsyncIterator[Answer]) -> None:
        self._steps = steps
        self._answers = answers

    def tell(self, step: Sent) -> None:
        """Send a step."""
        self._steps.put_nowait(step)

    async def hear(self) -> Answer:
        """The next answer. Raises as `Question.one`."""
        return await anext(self._answers)

    async def ask(self, step: Sent) -> Answer:
        """A step and its answer."""
        self.tell(step)
        return await self.hear()


def _one_table(counts: Sequence[sharding_pb2.ItemCounts]) -> bool:
    return len({each.item_table for each in counts}) == 1


def _of_others(parts: Sequence[bytes]) -> list[bytes]:
    """Of each shard's counts, those of all others."""
    table: npt.NDArray[np.int64] = np.array(
        [np.frombuffer(part, "<i4") for part in parts], np.int64
    )
    return [row.astype("<i4").tobytes() for row in table.sum(axis=0) - table]


def _rich_error(error: grpc.aio.AioRpcError) -> DomainError | None:
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            return error_of(status_pb2.Status.FromString(value))
    return None
