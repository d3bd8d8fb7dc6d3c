"""Work for concurrent calls that costs little more for many than for one, such as a statement."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.runtime import calls

Value = TypeVar("Value")
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class _Asked(Generic[Value, Result]):
    value: Value
    deadline: float | None
    done: "asyncio.Future[Result]"


class Gathered(Generic[Value, Result]):
    """Does work for the values of several calls together: what comes while some is under way waits
    and goes into the next. Alone, a call waits for nobody."""

    def __init__(
        self, work: Callable[[Sequence[Value]], Awaitable[Sequence[Result]]], most: int
    ) -> None:
        """`work` answers each value in their order, within the longest deadline of the calls; its
        errors are those of all of them. `most` values go together."""
        self._work = work
        self._most = most
        self._waiting: deque[_Asked[Value, Result]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def do(self, value: Value) -> Result:
        """The work for one value."""
        loop = asyncio.get_running_loop()
        asked: _Asked[Value, Result] = _Asked(value, calls.deadline(), loop.create_future())
        self._waiting.append(asked)
        if self._running is None:
            self._start()
        return await asked.done

    def _start(self) -> None:
        """Begin with what waits, of whom nobody has given up."""
        self._running = None
        taken: list[_Asked[Value, Result]] = []
        while self._waiting and len(taken) < self._most:
            asked = self._waiting.popleft()
            if not asked.done.done():
                taken.append(asked)
        if taken:
            context = copy_context()
            context.run(calls.set_latest, [asked.deadline for asked in taken])
            loop = asyncio.get_running_loop()
            self._running = loop.create_task(self._run(taken), context=context)
            self._running.add_done_callback(lambda _: self._start())

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
