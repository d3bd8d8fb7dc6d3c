"""Two batches of a stream at once: in order, never more than two, none left behind."""

import asyncio
from functools import partial

import pytest

from services.candidate.handlers.pipeline import Pipeline


class Work:
    """Pieces that hold until they are let go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.both = asyncio.Event()
        self.cancelled: list[int] = []
        self.gates = [asyncio.Event() for _ in range(4)]

    async def run(self, number: int, followed: asyncio.Event) -> int:
        self.begun.append(number)
        followed.set()
        if len(self.begun) == 2:
            self.both.set()
        try:
            await self.gates[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if number == 3:
            raise ValueError("no")
        return number


async def test_answers_come_in_order_and_two_run_at_once() -> None:
    work = Work()
    async with Pipeline[int]() as pipeline:
        assert await pipeline.put(partial(work.run, 0)) is None
        assert await pipeline.put(partial(work.run, 1)) is None
        third = asyncio.ensure_future(pipeline.put(partial(work.run, 2)))
        work.gates[1].set()  # ready before the first
        await work.both.wait()
        assert work.begun == [0, 1]
        assert not third.done()
        work.gates[0].set()
        work.gates[2].set()
        assert await third == 0
        assert await pipeline.rest() == [1, 2]


async def test_a_failure_reaches_the_caller_and_the_next_piece_is_cancelled() -> None:
    work = Work()

    async def stream() -> None:
        async with Pipeline[int]() as pipeline:
            await pipeline.put(partial(work.run, 3))
            await pipeline.put(partial(work.run, 1))
            await work.both.wait()
            work.gates[3].set()
            await pipeline.rest()

    with pytest.raises(ValueError, match="no"):
        await stream()
    assert (work.begun, work.cancelled) == ([3, 1], [1])


async def fail(followed: asyncio.Event) -> int:
    raise ValueError("at once")


async def test_a_piece_that_fails_before_others_may_start_is_told_at_the_end() -> None:
    async def stream() -> None:
        async with Pipeline[int]() as pipeline:
            assert await pipeline.put(fail) is None
            await pipeline.rest()

    with pytest.raises(ValueError, match="at once"):
        await stream()


async def test_nothing_starts_behind_a_piece_that_has_failed() -> None:
    work = Work()
    async with Pipeline[int]() as pipeline:
        await pipeline.put(fail)
        with pytest.raises(ValueError, match="at once"):
            await pipeline.put(partial(work.run, 0))
    assert work.begun == []


async def test_nothing_put_is_nothing_done() -> None:
    async with Pipeline[int]() as pipeline:
        assert await pipeline.rest() == []
