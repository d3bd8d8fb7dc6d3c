"""Work that is done for concurrent calls together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from services.runtime import calls
from services.runtime.errors import Unavailable
from services.runtime.gathering import Gathered


class Doubler:
    """Doubles numbers, when it may."""

    def __init__(
        self, most: int = 100, size: Callable[[int], int] = lambda _: 1, patience: float = 0.0
    ) -> None:
        self.done: list[list[int]] = []
        self.left_s: list[float | None] = []
        self.begun = asyncio.Event()
        self.free = asyncio.Event()
        self.error: Exception | None = None
        self.gathered = Gathered(self._work, most, size=size, patience=patience)

    async def _work(self, values: Sequence[int]) -> list[int]:
        self.done.append(list(values))
        self.left_s.append(calls.remaining())
        self.begun.set()
        await self.free.wait()
        if self.error is not None:
            raise self.error
        return [2 * value for value in values]

    async def within(self, value: int, seconds: float | None) -> int:
        """With a deadline."""
        calls.set_deadline(seconds)
        return await self.gathered.do(value)

    def ask(self, *values: int) -> list[asyncio.Task[int]]:
        """As concurrent calls."""
        return [asyncio.create_task(self.gathered.do(value)) for value in values]

    async def asked(self, *values: int) -> list[asyncio.Task[int]]:
        """The same, once all of them have asked."""
        begun = [asyncio.Event() for _ in values]

        async def call(value: int, begins: asyncio.Event) -> int:
            begins.set()  # and asks in the same step
            return await self.gathered.do(value)

        tasks = list(map(asyncio.create_task, map(call, values, begun)))
        for event in begun:
            await event.wait()
        return tasks


async def test_what_comes_meanwhile_goes_together_each_with_its_own_result() -> None:
    doubler = Doubler(most=3)
    first = doubler.ask(1)
    await doubler.begun.wait()
    later = doubler.ask(2, 3, 4, 5)
    doubler.free.set()  # which the first work sees after the others have asked
    assert await asyncio.gather(*first, *later) == [2, 4, 6, 8, 10]
    assert doubler.done == [[1], [2, 3, 4], [5]]
    assert await doubler.gathered.do(6) == 12


async def test_a_failure_is_that_of_the_calls_it_was_for_and_the_next_go_on() -> None:
    doubler = Doubler()
    doubler.free.set()
    doubler.error = Unavailable("down", reason="DATABASE")
    found = await asyncio.gather(*doubler.ask(1, 2), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in found)
    doubler.error = None
    assert await doubler.gathered.do(3) == 6


async def test_who_gives_up_is_left_out_and_stops_nobody() -> None:
    doubler = Doubler()
    (first,) = doubler.ask(1)
    await doubler.begun.wait()
    second, third = await doubler.asked(2, 3)
    first.cancel()
    second.cancel()
    doubler.free.set()
    assert await third == 6
    assert doubler.done == [[1], [3]]


async def test_what_comes_at_once_goes_together() -> None:
    doubler = Doubler()
    doubler.free.set()
    assert await asyncio.gather(*doubler.ask(1, 2, 3)) == [2, 4, 6]
    assert doubler.done == [[1, 2, 3]]


async def test_as_much_goes_together_as_fits_and_at_least_one() -> None:
    doubler = Doubler(most=5, size=lambda value: value)
    doubler.free.set()
    await asyncio.gather(*doubler.ask(2, 2, 2, 9, 1, 4))
    assert doubler.done == [[2, 2], [2], [9], [1, 4]]


async def test_what_had_to_wait_waits_for_more_that_comes() -> None:
    doubler = Doubler(most=3, patience=0.5)
    first = doubler.ask(1)
    await doubler.begun.wait()
    waiting = await doubler.asked(2)
    doubler.free.set()
    await asyncio.gather(*first)
    later = doubler.ask(3)
    await asyncio.gather(*waiting, *later)
    assert doubler.done == [[1], [2, 3]]


async def test_who_waits_for_more_does_not_wait_for_ever() -> None:
    doubler = Doubler(most=10**9, patience=0.01)
    asked = doubler.ask(1)
    await doubler.begun.wait()
    doubler.free.set()
    while len(doubler.done) < 2:  # more comes all the time
        asked += await doubler.asked(len(asked))
    assert len(doubler.done[1]) > 1
    await asyncio.gather(*asked)


async def test_what_is_enough_waits_for_nothing_more() -> None:
    doubler = Doubler(most=3, patience=3600.0)
    first = doubler.ask(1)
    await doubler.begun.wait()
    enough = await doubler.asked(2, 3, 4)
    doubler.free.set()
    await asyncio.gather(*first, *enough)
    assert doubler.done == [[1], [2, 3, 4]]


async def test_work_has_the_latest_deadline_of_its_calls() -> None:
    doubler = Doubler()
    first = asyncio.create_task(doubler.within(0, 3.0))
    await doubler.begun.wait()
    some = [asyncio.create_task(doubler.within(1, seconds)) for seconds in (5.0, 50.0)]
    doubler.free.set()
    await asyncio.gather(first, *some)
    doubler.free.clear()
    doubler.begun.clear()
    again = asyncio.create_task(doubler.within(0, 3.0))
    await doubler.begun.wait()
    some = [asyncio.create_task(doubler.within(1, seconds)) for seconds in (5.0, None)]
    doubler.free.set()
    await asyncio.gather(again, *some)
    assert doubler.left_s[0] == pytest.approx(3.0, abs=1.0)
    assert doubler.left_s[1] == pytest.approx(50.0, abs=1.0)
    assert doubler.left_s[3] is None
