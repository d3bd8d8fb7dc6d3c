"""Work for concurrent calls that costs little more for many than for one, such as a statement."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.runtime import calls

MOST_WAITS = 4
Value = TypeVar("Value")
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class _Asked(Generic[Value, Result]):
    value: Value
    deadline: float | None
    done: "asyncio.Future[Result]"


class Gathered(Generic[Value, Result]):
    """Does work for the values of several calls together: what comes at once, or while some is
    under way, goes together. Alone, a call waits for nobody."""

    def __init__(
        self,
        work: Callable[[Sequence[Value]], Awaitable[Sequence[Result]]],
        most: int,
        *,
        size: Callable[[Value], int] = lambda _: 1,
        patience: float = 0.0,
    ) -> None:
        """`work` answers each value in their order, within the longest deadline of the calls; its
        errors are those of all of them. Values of sizes up to `most` go together, and a larger one
        alone.

        With patience, what had to wait for other work waits so many seconds more, and again while
        more came, MOST_WAITS times at most, unless it is `most` already. A server takes calls in
        one by one, in between all else that its event loop does: where each brings work, few would
        be in when the next work begins.
        """
        self._work = work
        self._most = most
        self._size = size
        self._patience = patience
        self._waiting: deque[_Asked[Value, Result]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._is_idle = True
        """Nothing is under way, or about to be."""

    async def do(self, value: Value) -> Result:
        """The work for one value."""
        loop = asyncio.get_running_loop()
        asked: _Asked[Value, Result] = _Asked(value, calls.deadline(), loop.create_future())
        self._waiting.append(asked)
        if self._is_idle:
            self._is_idle = False
            loop.call_soon(self._start)  # after all who came at once
        return await asked.done

    def _go_on(self, known: int = 0, waits: int = 0) -> None:
        """Begin once no more comes; so many waited a moment ago, and have so many times."""
        count = len(self._waiting)
        if count > known and waits < MOST_WAITS and self._patience and self._has_room():
            loop = asyncio.get_running_loop()
            loop.call_later(self._patience, self._go_on, count, waits + 1)
        else:
            self._start()

    def _has_room(self) -> bool:
        return sum(self._size(asked.value) for asked in self._waiting) < self._most

    def _start(self) -> None:
        """Begin with what waits, of whom nobody has given up."""
        taken: list[_Asked[Value, Result]] = []
        left = self._most
        while self._waiting:
            asked = self._waiting[0]
            if not asked.done.done():
                left -= self._size(asked.value)
                if left < 0 and taken:
                    break
                taken.append(asked)
            self._waiting.popleft()
        self._is_idle = not taken
        if taken:
            context = copy_context()
            context.run(calls.set_latest, [asked.deadline for asked in taken])
            loop = asyncio.get_running_loop()
            self._running = loop.create_task(self._run(taken), context=context)
            self._running.add_done_callback(lambda _: self._go_on())

    async def _run(self, taken: Sequence[_Asked[Value, Result]]) -> None:
        try:
            results = await self._work([asked.value for asked in taken])
        except Exception as error:
            for asked in taken:
                if not asked.done.done():
                    asked.done.set_exception(error)
        else:
            for asked, result in zip(taken, results, strict=True):
                if not asked.done.done():
                    asked.done.set_result(result)
