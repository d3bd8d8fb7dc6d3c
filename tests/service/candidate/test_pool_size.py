"""How large pools and their tables may get: the order of eviction, and space that is used again."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from itertools import count

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from services.candidate import event_store
from services.candidate.events import Draft, End
from services.candidate.settings import CandidateSettings
from services.candidate.upkeep import Upkeep
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import NOW
from tests.service.candidate.test_digests import digest_type
from tests.service.candidate.test_invariants import POOL_SIZE, Engines, draft

HOUR = timedelta(hours=1)
USERS = [f"u{number}" for number in range(30)]
EXAMPLES = count()
EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 4), st.booleans()), min_size=1, max_size=9
)


@pytest.fixture
async def engines(open_database: OpenDatabase) -> Engines:
    made = Engines(open_database("candidate"))
    await made.prepare(USERS)
    await made.types.put(digest_type(maximum_wait=HOUR / 2), "", NOW)
    return made


def offered(user: str, name: str, score: int, hours: int, held: bool) -> Draft:
    kind = "like" if held else "news"
    expiry = NOW + hours * HOUR
    made = draft(user, name, kind=kind)._replace(source_score=score / 4, expire_time=expiry)
    return made._replace(aggregation_key=name) if held else made


def left_first(one: Draft, hours: int) -> tuple[bool, float, float, str]:
    """Sorts those that leave last first."""
    assert one.expire_time is not None
    expiry = one.expire_time
    return expiry <= NOW + hours * HOUR, -one.source_score, -expiry.timestamp(), one.event_id


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=EVENTS, second=EVENTS, hours=st.integers(0, 3))
async def test_the_order_of_eviction(
    engines: Engines,
    first: list[tuple[int, int, bool]],
    second: list[tuple[int, int, bool]],
    hours: int,
) -> None:
    """Expired, then least promising, then soonest expiry; all recorded as what they are."""
    user = f"user{next(EXAMPLES)}"
    await engines.prepare([user])
    ends: dict[str, End] = {}
    waiting: list[Draft] = []
    for batch, later, events in (("a", 0, first), ("b", hours, second)):
        drafts = [offered(user, f"{batch}{n}", *event) for n, event in enumerate(events)]
        now = NOW + later * HOUR
        published = await engines.publisher.publish(drafts, now)
        new = [d for place, d in enumerate(drafts) if place not in published.refusals]
        if not new:
            continue
        order = sorted([*waiting, *new], key=lambda one, later=later: left_first(one, later))
        for one in order[POOL_SIZE:]:
            assert one.expire_time is not None
            ends[one.event_id] = End.EXPIRED if one.expire_time <= now else End.EVICTED
        waiting = order[:POOL_SIZE]
    stored = {name: end for (_, name), end in (await engines.stored([user])).items()}
    assert {name for name, end in stored.items() if end is None} == {d.event_id for d in waiting}
    assert {name: end for name, end in stored.items() if end is not None} == ends


async def bounds(engines: Engines) -> list[tuple[int, int]]:
    """Of each user, the stored bound and how many events wait."""
    query = text(
        "SELECT pool_bound, (SELECT count(*) FROM events WHERE events.user_id = users.user_id"
        " AND end_kind IS NULL AND route = 3) AS waiting FROM users ORDER BY user_id"
    )
    async with engines.database.read() as work:
        return [(row.pool_bound, row.waiting) for row in await work.rows(query)]


async def test_bounds_are_made_exact_and_never_too_low(engines: Engines) -> None:
    """Counted a few users at a time, while events come and go and some users get their first."""
    upkeep = Upkeep(engines.database, CandidateSettings(cleanup_batch=7))

    async def publish(part: int) -> None:
        for number in range(12):
            names = USERS[part::3] if number else USERS[:20]
            kind = ("news", "like")[number % 2]
            batch = [draft(user, f"{part}-{number}", kind=kind) for user in names]
            await engines.publisher.publish(batch, NOW)

    async def count() -> None:
        for _ in range(10):
            await upkeep.run(NOW)
            assert all(bound >= waiting for bound, waiting in await bounds(engines))

    async def expire() -> None:
        for hours in range(10):
            await engines.pool.expire(5, NOW + timedelta(hours=hours))

    await asyncio.gather(*(publish(part) for part in range(3)), count(), count(), expire())
    await engines.pool.expire(10_000, NOW + timedelta(days=4))
    found = await bounds(engines)
    assert any(bound > waiting for bound, waiting in found)
    await upkeep.run(NOW)
    found = await bounds(engines)
    assert all(bound == waiting for bound, waiting in found)


@pytest.mark.parametrize("locked", [True, False])
async def test_an_event_on_its_way_is_not_missed(engines: Engines, locked: bool) -> None:
    """A count waits for it and is exact; of a user whom it didn't lock it leaves the bound."""
    user = USERS[0]
    await engines.publisher.publish([draft(user, "old")], NOW)
    await engines.pool.expire(10, NOW + timedelta(days=4))
    assert (await bounds(engines))[0] == (1, 0)

    async def count() -> None:
        async with engines.database.unit_of_work() as work:
            if locked:
                await event_store.count_pools(work, "", 100)
            else:
                whole = {"after": "", "last": user}
                await work.execute(event_store.QUERIES.lower_pool_bounds, whole)
            await work.commit()

    async with engines.database.unit_of_work() as work:
        await engines.publisher.publish_in(work, [draft(user, "new")], NOW)
        counting = asyncio.create_task(count())
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        async with engines.database.read() as other:
            while not (await other.rows(waits))[0][0]:
                assert not counting.done()
        await work.commit()
    await counting
    assert (await bounds(engines))[0] == ((1, 1) if locked else (2, 1))


async def test_tables_stop_growing_when_events_come_and_go(
    engines: Engines, database_url: str
) -> None:
    """Published, expired and deleted over and over, with the vacuum that the tables ask for."""
    kept = CandidateSettings(retention=HOUR, repeat_horizon=HOUR)
    upkeep = Upkeep(engines.database, kept)
    sizes = []
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as admin:
        for cycle in range(6):
            now = NOW + cycle * timedelta(days=10)
            for kind in ("news", "code"):
                offers = [draft(user, f"{cycle}-{kind}-{n}", kind=kind)
                          for user in USERS for n in range(20)]  # fmt: skip
                await engines.publisher.publish(offers, now)
            await engines.pool.expire(500, now + timedelta(days=4))
            await upkeep.run(now + timedelta(days=9))
            await admin.execute("VACUUM")
            cursor = await admin.execute(
                "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' "
                "AND relnamespace = 'candidate'::regnamespace"
            )
            (size,) = await cursor.fetchone() or (0,)
            sizes.append(int(size))
    assert not await engines.stored(USERS)
    assert max(sizes[2:]) <= 1.1 * sizes[1], sizes


async def test_what_did_not_come_does_not_stay_in_a_bound(engines: Engines) -> None:
    """Pools are claimed for all that is offered: replays and refused events give their place
    back."""
    offers = [draft(user, "once") for user in USERS]
    reused = [offer._replace(digest=b"another") for offer in offers[:5]]
    wrong = [draft(user, "wrong", kind="unheard") for user in USERS[5:10]]
    immediate = [draft(user, "now", kind="code") for user in USERS[10:15]]
    for _ in range(3):
        await engines.publisher.publish([*offers, *reused, *wrong, *immediate], NOW)
    assert await bounds(engines) == [(1, 1)] * len(USERS)


async def test_batches_about_the_same_users_wait_for_each_other_in_turn(engines: Engines) -> None:
    """However their users are ordered, none has to be repeated."""

    async def publish(part: int) -> None:
        for number in range(5):
            names = random.Random(part * 5 + number).sample(USERS, len(USERS))
            offers = [draft(user, f"{part}-{number}") for user in names]
            published = await engines.publisher.publish(offers, NOW)
            assert len(published.added) == len(USERS)

    await asyncio.gather(*(publish(part) for part in range(8)))


async def test_tables_that_churn_are_vacuumed_early(engines: Engines) -> None:
    query = text(
        "SELECT count(*) FROM pg_class WHERE relname ~ '^(events_[0-9]+|arrivals|ready)$' "
        "AND relkind = 'r' AND 'autovacuum_vacuum_scale_factor=0.02' = ANY(reloptions)"
    )
    async with engines.database.read() as work:
        ((tables,),) = await work.rows(query)
    assert tables == 18
