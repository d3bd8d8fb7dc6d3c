"""Values of a stream on their way to their commits, in lanes that share no user.

A user's values all go through one lane, one transaction after the other, so that they come in their
order and no lane waits for another's locks. What comes while a transaction is under way goes into
the next one together.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

Value = TypeVar("Value")
Lane = asyncio.Queue[Sequence[Value] | None]
LANES = 2
"""While the database works on one, on another core, the other's next transaction is made ready."""
MOST_WAITING = 4
"""Parts of batches that may wait in a lane; who has more waits."""


@asynccontextmanager
async def open_lanes(
    store: Callable[[Sequence[Value]], Awaitable[None]],
) -> AsyncIterator[Sequence[Lane[Value]]]:
    """Lanes to put values into, which are stored when the block has been left. What fails ends the
    block, and the other lanes."""
    try:
        async with asyncio.TaskGroup() as group:
            lanes = [Lane[Value](MOST_WAITING) for _ in range(LANES)]
            for lane in lanes:
                group.create_task(_drain(lane, store))
            yield lanes
            for lane in lanes:
                await lane.put(None)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _drain(lane: Lane[Value], store: Callable[[Sequence[Value]], Awaitable[None]]) -> None:
    while (part := await lane.get()) is not None:
        values = list(part)
        while not lane.empty() and (part := lane.get_nowait()) is not None:
            values += part
        await store(values)
        if part is None:
            return
