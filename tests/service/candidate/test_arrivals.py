"""Arrivals lie in blocks of users; readers see none of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.candidate.attribute_types import AttributeTypes
from services.candidate.catalogue import CatalogueWriter
from services.candidate.cursors import Position
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import NOW
from tests.service.candidate.test_invariants import Engines, draft

USERS = [f"u{number:03}" for number in range(150)]
"""Of more than two blocks."""


@pytest.fixture
async def engines(open_database: OpenDatabase) -> Engines:
    made = Engines(open_database("candidate"))
    await made.prepare(USERS)
    return made


async def read(engines: Engines, position: Position, count: int) -> tuple[list[str], Position]:
    """All that came after a position, in pages of so many users."""
    users: list[str] = []
    more = True
    while more:
        page = await engines.pool.arrivals(position, count)
        assert len(page.user_ids) <= count
        users += page.user_ids
        position, more = page.position, page.more
    return users, position


@pytest.mark.parametrize("count", [1, 7, 64])
async def test_a_page_may_end_inside_a_block(engines: Engines, count: int) -> None:
    await engines.publisher.publish([draft(user, "a") for user in USERS], NOW)
    await engines.publisher.publish([draft(user, "b") for user in USERS[:70]], NOW)
    users, position = await read(engines, Position(0, 0), count)
    assert users == [*USERS, *USERS[:70]]
    assert await read(engines, position, count) == ([], position)


async def test_a_user_leaves_a_block_and_the_cursor_stands(engines: Engines) -> None:
    await engines.publisher.publish([draft(user, "a") for user in USERS], NOW)
    page = await engines.pool.arrivals(Position(0, 0), 30)
    writer = CatalogueWriter(
        engines.database, AttributeTypes(engines.database), timedelta(minutes=5)
    )
    for user in (USERS[3], USERS[40], USERS[149]):
        await writer.erase_user(user, NOW)
    users, _ = await read(engines, page.position, 1000)
    assert users == [user for user in USERS[30:149] if user != USERS[40]]
    users, _ = await read(engines, Position(0, 0), 11)
    assert users == [user for user in USERS[:149] if user not in (USERS[3], USERS[40])]
