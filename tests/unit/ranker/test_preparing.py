"""Calls that are prepared together get what each would get alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from unittest.mock import Mock

import numpy as np

from services.ranker.catalogue import Catalogue
from services.ranker.feature_store import FeatureStore
from services.ranker.features import (
    Channel,
    EventFacts,
    FeatureState,
    Send,
    Session,
    UserSignals,
    apply,
)
from services.ranker.preparing import Facts, Preparation
from tests.unit.ranker.entries import START
from tests.unit.ranker.made_log import made_items

NOW = START + 41 * 86400


def made_state(number: int) -> FeatureState:
    """One that grows with the number, some of it later than some of the calls."""
    times = [NOW + 7200 - 5000 * n for n in range(3 * number)]
    sends = [Send(time, f"s{time}", Channel.PUSH, "a", [f"i{number}"]) for time in times]
    return apply(FeatureState(), [*sends, *(Session(time, f"v{time}") for time in times[::2])])


STATES = {f"u{n}": made_state(n) for n in range(6)}


def preparation() -> tuple[Preparation, list[int]]:
    """With the number of users of each reading."""
    read: list[int] = []

    async def states(user_ids: Sequence[str]) -> list[FeatureState]:
        read.append(len(user_ids))
        return [STATES.get(user, FeatureState()) for user in user_ids]

    store = Mock(spec=FeatureStore, states=states)
    return Preparation(store, Mock(spec=Catalogue, items=made_items(9))), read


def facts(number: int) -> Facts:
    """A call of its own time, users, and events in no order."""
    users = number % 3 + 1
    rows = np.random.default_rng(number).integers(0, users, 4 * number)
    return Facts(
        user_ids=[f"u{number + n}" for n in range(users)],
        signals=[UserSignals(time_zone="Asia/Tokyo" if number % 2 else "")] * users,
        events=[EventFacts("a", (f"i{n}",), "s", n / 99, NOW - n) for n in range(4 * number)],
        user_row=rows,
        now=NOW + 3600 * number,
        deliver_time=NOW + 90_000 if number == 2 else None,
    )


async def test_calls_together_get_what_each_gets_alone() -> None:
    asked = [facts(number) for number in range(5)]
    together, read = preparation()
    found = await asyncio.gather(*map(together.prepare, asked))
    assert read == [sum(len(call.user_ids) for call in asked)]
    for call, got in zip(asked, found, strict=True):
        alone = await preparation()[0].prepare(call)
        assert got.snapshots == alone.snapshots
        for mine, other in ((got.users, alone.users), (got.events, alone.events)):
            assert list(mine) == list(other)
            for name, array in mine.items():
                np.testing.assert_array_equal(array, other[name])
