"""Work that a service does beside its calls: periodic tasks and long-lived background tasks."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import grpc

from services.runtime import clock as clocks
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.durations import in_words
from services.runtime.logs import Logger

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_UNREACHABLE = grpc.StatusCode.UNAVAILABLE


@dataclass(slots=True)
class _Periodic:
    name: str
    every: timedelta
    run: Callable[[datetime], Awaitable[None]]
    due: datetime | None = None
    unreachable: bool = False
    """Its last run failed for a service that could not be reached."""


class Tasks:
    """The periodic and background tasks of one service.

    On the wall clock each periodic task has a loop: at start, then every `every`. In simulation
    mode the server calls `run_due` before it handles a request that has reached the due time; a
    task runs once for all the periods that passed. A failing task is logged and counted, and
    never ends the service; a failed background task is started again after a pause.
    """

    def __init__(self, service: str, clock: Clock, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._periodic: list[_Periodic] = []
        self._background: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._loops: set[asyncio.Task[None]] = set()
        self._due_runs: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._next_due: datetime | None = None
        self._failures = metrics.counter(
            service, "task_failures", "", "Failures of periodic and background tasks.", ["task"]
        )

    def periodic(
        self, name: str, every: timedelta, run: Callable[[datetime], Awaitable[None]]
    ) -> None:
        """Run `run(now)` every `every` (> 0)."""
        if every <= timedelta(0):
            raise ValueError(f"periodic task {name}: every must be above 0, not {in_words(every)}")
        self._periodic.append(_Periodic(name, every, run))

    def background(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Keep `run` running until the service stops; a normal return ends it for good."""
        self._background.append((name, run))

    def start(self) -> None:
        """Start the loops; called once, when the service is bound."""
        if not self._clock.simulation:
            for task in self._periodic:
                self._spawn(self._loop(task))
        for name, run in self._background:
            self._spawn(self._keep_running(name, run))

    async def stop(self) -> None:
        """Cancel the loops and wait until they have ended; runs that calls wait for go on."""
        await _cancel(self._loops)

    async def close(self) -> None:
        """Cancel the runs whose calls were given up."""
        await _cancel(self._due_runs)

    async def run_due(self, moment: datetime) -> None:
        """Simulation mode: run what is due at `moment`, before the caller's request goes on.

        Concurrent callers wait for the same run. Cancelling the caller does not cancel the run.
        """
        if not self._periodic or (self._next_due is not None and moment < self._next_due):
            return
        run = asyncio.create_task(self._run_due(moment), context=Context())
        self._due_runs.add(run)
        run.add_done_callback(self._due_runs.discard)
        await asyncio.shield(run)

    async def _run_due(self, moment: datetime) -> None:
        clocks.set_moment(moment)
        async with self._lock:
            for task in self._periodic:
                if task.due is None:
                    task.due = moment
                if moment < task.due:
                    continue
                await self._run_once(task, moment)
                task.due += ((moment - task.due) // task.every + 1) * task.every
            self._next_due = min(task.due for task in self._periodic if task.due is not None)

    async def _run_once(self, task: _Periodic, moment: datetime) -> None:
        try:
            await task.run(moment)
        except Exception as error:
            self._failures.labels(task.name).inc()
            self._tell(task, error)
        else:
            task.unreachable = False

    def _tell(self, task: _Periodic, error: Exception) -> None:
        """Log a failure; that a service can't be reached only when it begins, and in one line."""
        if not isinstance(error, grpc.aio.AioRpcError) or error.code() is not _UNREACHABLE:
            task.unreachable = False
            self._log.error("periodic task failed", task=task.name, exc_info=error)
        elif not task.unreachable:
            task.unreachable = True
            self._log.warning(
                "periodic task waits for a service that can't be reached",
                task=task.name,
                problem=error.details(),
            )

    async def _loop(self, task: _Periodic) -> None:
        period = task.every.total_seconds()
        due = self._clock.monotonic()
        while True:
            await self._run_once(task, self._clock.now())
            now = self._clock.monotonic()
            due = max(due + period, now)
            await asyncio.sleep(due - now)

    async def _keep_running(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            started = self._clock.monotonic()
            try:
                await run()
                return
            except Exception:
                self._failures.labels(name).inc()
                self._log.exception("background task failed; starting it again", task=name)
            if self._clock.monotonic() - started > _LONGEST_PAUSE_S:
                pause = _FIRST_PAUSE_S
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._loops.add(asyncio.create_task(work, context=Context()))


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    tasks.clear()
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
