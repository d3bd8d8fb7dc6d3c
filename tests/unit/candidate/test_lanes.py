"""Lanes of a stream: in order, one transaction of a lane at a time, nothing left behind."""

import asyncio
from collections.abc import Sequence
from itertools import chain

import pytest

from services.candidate.handlers.lanes import MOST_WAITING, open_lanes


class Store:
    """Stores what it gets when it is let go; a negative value can't be stored."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[list[int]] = asyncio.Queue()
        self.stored: list[list[int]] = []
        self.cancelled: list[list[int]] = []
        self.gate = asyncio.Event()

    async def __call__(self, values: Sequence[int]) -> None:
        self.begun.put_nowait(list(values))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(list(values))
            raise
        if min(values) < 0:
            raise ValueError("no")
        self.stored.append(list(values))


async def test_a_lane_stores_in_order_what_came_meanwhile_together() -> None:
    store = Store()
    async with open_lanes(store) as (one, other):
        await one.put([1, 2])
        assert await store.begun.get() == [1, 2]
        await one.put([3])
        await one.put([4, 5])
        await other.put([0, 10])
        assert await store.begun.get() == [0, 10]  # beside the other lane's; no second of that one
        store.gate.set()
    assert sorted(store.stored) == [[0, 10], [1, 2], [3, 4, 5]]
    assert store.stored.index([1, 2]) < store.stored.index([3, 4, 5])


async def test_who_puts_more_than_may_wait_waits() -> None:
    store = Store()
    async with open_lanes(store) as (lane, _):
        await lane.put([0])
        await store.begun.get()
        for number in range(MOST_WAITING):
            await lane.put([number + 1])
        assert lane.full()
        store.gate.set()
        await lane.put([9])
    assert [*chain.from_iterable(store.stored)] == [*range(MOST_WAITING + 1), 9]


async def test_a_failure_ends_the_block_and_the_other_lane() -> None:
    store = Store()

    async def put() -> None:
        async with open_lanes(store) as (one, other):
            await one.put([-1])
            await store.begun.get()
            store.gate.set()
            await other.put([2])
            await asyncio.Event().wait()  # for what never comes

    with pytest.raises(ValueError, match="no"):
        await put()


async def test_what_is_under_way_when_the_block_fails_is_cancelled() -> None:
    store = Store()

    async def put() -> None:
        async with open_lanes(store) as (lane, _):
            await lane.put([1])
            await store.begun.get()
            raise KeyError

    with pytest.raises(KeyError):
        await put()
    assert (store.stored, store.cancelled) == ([], [[1]])


async def test_nothing_put_is_nothing_done() -> None:
    store = Store()
    async with open_lanes(store):
        pass
    assert store.begun.empty()
