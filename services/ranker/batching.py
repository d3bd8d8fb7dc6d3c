"""Gathers the events of concurrent calls into runs of the model.

A run starts as soon as the backend has room for one, with what waits then; what comes meanwhile
goes together in the next. So nobody waits longer than for the runs ahead, and the more calls come,
the fuller runs are. A large call gives way after a number of events, so that small ones don't wait
for all of it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.ranker.backend import MOST_USERS, Backend
from services.ranker.catalogue import Catalogue
from services.ranker.features import HEADS, Features, concatenate, model_inputs, rows
from services.ranker.run_sizes import RunSizes
from services.ranker.triton_model.buckets import BadInputs
from services.runtime import calls

RUN_EVENTS = 640
"""Events of a run at most: more are scored no faster together, and hold the others up."""
CALL_EVENTS = 160
"""Events of one call in a run, as long as others wait."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Users [U] and events [N] of a call, before references are resolved; `user_row` [N] gives each
    event its user."""

    users: Features
    events: Features
    user_row: NDArray[np.int64]


@dataclass(eq=False, slots=True)
class _Waiting:
    """A call whose events are not all scored."""

    rows: Rows
    order: NDArray[np.int64]
    """Its events in the order of their users."""
    nth_user: NDArray[np.int64]
    """For each of these, how many other users stand before it."""
    is_in_order: bool
    """Its events stand in the order of their users, of whom each has one."""
    deadline: float | None
    """On the monotonic clock."""
    done: "asyncio.Future[None]"
    scores: NDArray[np.float32]
    taken: int = 0
    """Events that are in a run, or were."""
    scored: int = 0

    @classmethod
    def of(cls, call: Rows) -> "_Waiting":
        order = np.argsort(call.user_row, kind="stable")
        own = call.user_row[order]
        nth_user = np.cumsum(np.diff(own, prepend=own[:1]) > 0, dtype=np.int64)
        return cls(
            rows=call,
            order=order,
            nth_user=nth_user,
            is_in_order=bool((call.user_row == nth_user).all())
            and nth_user[-1] + 1 == len(call.users["segment"]),
            deadline=calls.deadline(),
            done=asyncio.get_running_loop().create_future(),
            scores=np.empty((len(order), len(HEADS)), np.float32),
        )

    @property
    def is_taken(self) -> bool:
        """Nothing of it waits for a run."""
        return self.taken == len(self.order) or self.done.done()

    def take(self, events: int, users: int) -> None:
        """The next events, so many at most of so many users."""
        end = int(np.searchsorted(self.nth_user, self.nth_user[self.taken] + users))
        self.taken = min(self.taken + events, end)

    def users_since(self, start: int) -> int:
        """Of what has been taken from there on."""
        if start == self.taken:
            return 0
        return int(self.nth_user[self.taken - 1] - self.nth_user[start]) + 1

    def put(self, events: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Keep the scores of some events."""
        self.scores[events] = scores
        self.scored += len(events)
        if self.scored == len(self.order) and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """The call gets no scores."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True, slots=True)
class _Part:
    """Events of one call that are in a run."""

    call: _Waiting
    events: NDArray[np.int64]

    def inputs(self) -> Rows:
        """Their rows, and those of their users."""
        whole, chosen = self.call.rows, self.events
        if len(chosen) == len(whole.user_row) and self.call.is_in_order:
            return whole
        users, local = np.unique(whole.user_row[chosen], return_inverse=True)
        return Rows(rows(whole.users, users), rows(whole.events, chosen), local)


@dataclass(eq=False, slots=True)
class Batcher:
    """Scores rows of any number of calls. One per service."""

    backend: Backend
    catalogue: Catalogue
    parallel_runs: int
    """Runs that go on at once."""
    sizes: RunSizes = field(default_factory=RunSizes)
    _waiting: dict[str, deque[_Waiting]] = field(default_factory=dict)
    """Of each version, in the order in which they came."""
    _running: set["asyncio.Task[None]"] = field(default_factory=set)

    async def score(self, version: str, call: Rows) -> NDArray[np.float32]:
        """Scores [N, heads]. Raises as `Backend.score`."""
        if not len(call.user_row):
            return np.empty((0, len(HEADS)), np.float32)
        waiting = _Waiting.of(call)
        self._waiting.setdefault(version, deque()).append(waiting)
        asyncio.get_running_loop().call_soon(self._start)  # after all who came at once
        await waiting.done
        return waiting.scores

    def _start(self) -> None:
        """Begin runs, of the versions in turn, as long as there is room and something waits."""
        while self._waiting and len(self._running) < self.parallel_runs:
            version, queue = next(iter(self._waiting.items()))
            parts = fill(queue)
            del self._waiting[version]
            if queue:
                self._waiting[version] = queue  # behind the other versions
            if parts:
                context = copy_context()
                context.run(calls.set_latest, [part.call.deadline for part in parts])
                run = asyncio.get_running_loop().create_task(
                    self._run(version, parts), context=context
                )
                self._running.add(run)
                run.add_done_callback(self._ended)

    def _ended(self, run: "asyncio.Task[None]") -> None:
        self._running.discard(run)
        self._start()

    async def _run(self, version: str, parts: Sequence[_Part]) -> None:
        """Score some parts. Of those that the model can't take only their own call fails."""
        try:
            inputs = self._inputs(parts)
            self.sizes.count(inputs)
            scores = await self.backend.score(version, inputs)
        except BadInputs as error:
            if len(parts) == 1:
                parts[0].call.fail(error)
            else:
                for part in parts:
                    await self._run(version, [part])
        except Exception as error:
            for part in parts:
                part.call.fail(error)
        else:
            ends = np.cumsum([len(part.events) for part in parts])
            for part, own in zip(parts, np.split(scores, ends[:-1]), strict=True):
                part.call.put(part.events, own)

    def _inputs(self, parts: Sequence[_Part]) -> Features:
        found = [part.inputs() for part in parts]
        sizes = [len(each.users["segment"]) for each in found]
        shifts = np.cumsum(sizes) - sizes
        users = concatenate([each.users for each in found])
        events = concatenate([each.events for each in found])
        user_row = np.concatenate(
            [each.user_row + shift for each, shift in zip(found, shifts, strict=True)]
        )
        return model_inputs(users, events, user_row, self.catalogue.items)


def fill(queue: deque[_Waiting]) -> list[_Part]:
    """Take the parts of one run out of a queue: CALL_EVENTS of each call at most, the oldest first,
    and more of them while there is room."""
    starts: dict[_Waiting, int] = {}
    events, users = RUN_EVENTS, MOST_USERS
    while queue and events and users:
        for _ in range(len(queue)):
            call = queue.popleft()
            if not call.is_taken and events and users:
                start = starts.setdefault(call, call.taken)
                before = call.taken, call.users_since(start)
                call.take(min(CALL_EVENTS, events), users)
                events -= call.taken - before[0]
                users -= call.users_since(start) - before[1]
            if not call.is_taken:
                queue.append(call)
    return [_Part(call, call.order[start : call.taken]) for call, start in starts.items()]
