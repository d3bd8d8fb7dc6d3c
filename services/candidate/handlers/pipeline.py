"""Two batches of a stream at work at once: one on its way to its commit, the next behind it.

A third may be made ready meanwhile: it is put in when the first is done.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

Done = TypeVar("Done")
AT_ONCE = 2


class Pipeline(Generic[Done]):
    """Starts each piece of work when the one before it has set its event, and answers them in their
    order. A piece that fails fails a later call; what is under way when the block is left is
    cancelled."""

    def __init__(self) -> None:
        self._ahead: deque[tuple[asyncio.Task[Done], asyncio.Event]] = deque()
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
        """Start a piece of work as soon as it may; returns what the last but one before it came to,
        None for the first two."""
        done = None
        if len(self._ahead) == AT_ONCE:
            before, _ = self._ahead.popleft()
            done = await before
        if self._ahead:
            await _followed(*self._ahead[-1])
        followed = asyncio.Event()
        self._ahead.append((self._spawn(start, followed), followed))
        return done

    async def rest(self) -> list[Done]:
        """What the pieces came to that no call has returned yet."""
        return [await task for task, _ in self._ahead]

    def _spawn(
        self, start: Callable[[asyncio.Event], Awaitable[Done]], followed: asyncio.Event
    ) -> asyncio.Task[Done]:
        async def run() -> Done:
            return await start(followed)

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


async def _followed(task: asyncio.Task[Done], signal: asyncio.Event) -> None:
    """Until a piece lets another start, or has ended. Raises what it raised by then."""
    waiting = asyncio.ensure_future(signal.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if task.done():
        task.result()
