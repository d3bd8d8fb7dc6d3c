"""Two batches of a stream at work at once: one on its way to its commit, the next behind it."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

Done = TypeVar("Done")


class Pipeline(Generic[Done]):
    """Starts each piece of work when the one before it has set its event, and answers them in their
    order. A piece that fails fails the next call; what is under way when the block is left is
    cancelled."""

    def __init__(self) -> None:
        self._before: asyncio.Task[Done] | None = None
        self._running: set[asyncio.Task[Done]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def put(self, start: Callable[[asyncio.Event], Awaitable[Done]]) -> Done | None:
        """Start a piece of work and wait until another may start; returns what the piece before it
        came to, None for the first one."""
        followed = asyncio.Event()
        task = self._spawn(start, followed)
        before, self._before = self._before, task
        signal = asyncio.ensure_future(followed.wait())
        try:
            await asyncio.wait({task, signal}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            signal.cancel()
        return None if before is None else await before

    async def last(self) -> Done | None:
        """What the last piece came to; None when there was none."""
        return None if self._before is None else await self._before

    def _spawn(
        self, start: Callable[[asyncio.Event], Awaitable[Done]], followed: asyncio.Event
    ) -> asyncio.Task[Done]:
        async def run() -> Done:
            return await start(followed)

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
