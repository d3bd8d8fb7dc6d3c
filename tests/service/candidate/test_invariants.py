"""The invariants that candidate's tables and engines keep, on real Postgres."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import count

import pytest
from heliograph.candidate.v1alpha1 import campaigns_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from services.candidate import catalogue_store
from services.candidate.campaigns import BATCH, Campaigns, Launch
from services.candidate.catalogue_store import Record
from services.candidate.event_store import Ending
from services.candidate.event_types import EventTypes
from services.candidate.events import Draft, End, Route
from services.candidate.index import IndexOptions, UserIndex
from services.candidate.ordering import IndexRanker
from services.candidate.pool import RANKED, Pool
from services.candidate.publisher import Publisher
from services.candidate.questions import Audience, Direction, Subject
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import Aborted
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import IMMEDIATE, NOW, event_type

POOL_SIZE = 4
USERS = ["anna", "bert"]
EXAMPLES = count()


class Engines:
    """The publisher and the pool on one database, without a server."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.types = EventTypes(database)
        options = IndexOptions(timedelta(days=1), 0, 1)
        self.index = UserIndex(database, Clock(simulation=False), options)
        ranker = IndexRanker(self.index)
        self.pool = Pool(database, ranker)
        self.publisher = Publisher(
            database, self.types, ranker, pool_size=POOL_SIZE, tolerance=timedelta(minutes=5)
        )

    async def prepare(self, users: list[str]) -> None:
        await self.index.refresh()
        for kind in (event_type("news"), event_type("code", IMMEDIATE)):
            await self.types.put(kind, "", NOW)
        async with self.database.unit_of_work() as work:
            records = [Record(name, b"", None) for name in users]
            await catalogue_store.upsert_users(work, records, NOW)
            await work.commit()

    async def stored(self, users: list[str]) -> dict[tuple[str, str], int | None]:
        query = text("SELECT user_id, event_id, end_kind FROM events WHERE user_id = ANY(:users)")
        async with self.database.read() as work:
            rows = await work.rows(query, {"users": users})
        return {(row.user_id, row.event_id): row.end_kind for row in rows}

    async def run(self, statement: str) -> None:
        async with self.database.unit_of_work() as work:
            await work.execute(text(statement))
            await work.commit()


@pytest.fixture
async def engines(open_database: OpenDatabase) -> Engines:
    made = Engines(open_database("candidate"))
    await made.prepare(USERS)
    return made


def draft(user: str, name: str, content: int = 0, kind: str = "news") -> Draft:
    return Draft(user, name, kind, bytes([content]), source_score=content / 10)


OFFERS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5), st.integers(0, 1)), max_size=8
)
ENDS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5), st.sampled_from(list(End))),
    max_size=4,
)
STEPS = st.lists(st.one_of(OFFERS.map(lambda o: ("offer", o)), ENDS.map(lambda e: ("end", e))))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
async def test_invariants_1_and_10_accepted_once_and_no_way_out_without_an_end(
    engines: Engines, steps: list[tuple[str, list[tuple[str, int, int]]]]
) -> None:
    """Against a model: which content stands under each id, and which end came first."""
    example = next(EXAMPLES)
    users = {name: f"{name}{example}" for name in "ab"}
    await engines.prepare(list(users.values()))
    contents: dict[tuple[str, str], int] = {}
    ends: dict[tuple[str, str], int] = {}
    for kind, entries in steps:
        keys = [(users[user], f"e{place}") for user, place, _ in entries]
        if kind == "end":
            endings = [
                Ending(*key, End(end)) for key, (_, _, end) in zip(keys, entries, strict=True)
            ]
            stored = await engines.stored(list(users.values()))
            ended = await engines.pool.settle(endings, RANKED, NOW)
            open_keys = {key for key in keys if key in stored and stored[key] is None}
            assert ended == len(open_keys)
            for key, ending in zip(keys, endings, strict=True):
                if key in open_keys:
                    ends.setdefault(key, int(ending.end))
            continue
        drafts = [draft(*key, content) for key, (_, _, content) in zip(keys, entries, strict=True)]
        published = await engines.publisher.publish(drafts, NOW)
        for place, offered in enumerate(drafts):
            first = contents.setdefault(offered.key, offered.digest[0])
            assert (place in published.refusals) == (first != offered.digest[0])
        for key in published.evicted:
            ends[key] = int(End.EVICTED)
    stored = await engines.stored(list(users.values()))
    assert stored == {key: ends.get(key) for key in contents}
    waiting = Counter(user for (user, _), end in stored.items() if end is None)
    assert max(waiting.values(), default=0) <= POOL_SIZE


async def test_invariant_1_holds_under_concurrent_publishers(engines: Engines) -> None:
    offers = [draft(user, f"e{n}", kind="code") for user in USERS for n in range(40)]
    orders = [offers, offers[::-1], offers[20:] + offers[:20], offers]
    results = await asyncio.gather(*(engines.publisher.publish(o, NOW) for o in orders))
    assert sum(len(result.added) for result in results) == len(offers)
    assert not any(result.refusals for result in results)
    assert len(await engines.stored(USERS)) == len(offers)


@pytest.mark.parametrize("size", [1, 3])
async def test_concurrent_publishers_keep_the_pool_size(engines: Engines, size: int) -> None:
    batches = [[draft("anna", f"e{b}-{n}", n) for n in range(size)] for b in range(8)]
    await asyncio.gather(*(engines.publisher.publish(batch, NOW) for batch in batches))
    ends = Counter((await engines.stored(USERS)).values())
    assert ends == {None: POOL_SIZE, int(End.EVICTED): 8 * size - POOL_SIZE}


async def test_concurrent_ends_count_once(engines: Engines) -> None:
    await engines.publisher.publish([draft("anna", f"e{n}") for n in range(4)], NOW)
    endings = [Ending("anna", f"e{n}", End.SENT) for n in range(4)]
    orders = [endings, endings[::-1], endings]
    counts = await asyncio.gather(*(engines.pool.settle(o, RANKED, NOW) for o in orders))
    assert sum(counts) == 4


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM events WHERE event_id = 'waiting'",
        "UPDATE events SET end_kind = 2 WHERE event_id = 'ended'",
        "UPDATE events SET end_kind = NULL, end_time = NULL WHERE event_id = 'ended'",
        "UPDATE events SET end_kind = 1 WHERE event_id = 'waiting'",
        "UPDATE events SET end_kind = 7, end_time = accept_time WHERE event_id = 'waiting'",
    ],
)
async def test_invariant_10_is_kept_by_the_tables(engines: Engines, statement: str) -> None:
    await engines.publisher.publish([draft("anna", "waiting"), draft("anna", "ended")], NOW)
    await engines.pool.settle([Ending("anna", "ended", End.SENT)], RANKED, NOW)
    before = await engines.stored(USERS)
    with pytest.raises(Exception, match="event"):
        await engines.run(statement)
    assert await engines.stored(USERS) == before


async def test_expiry_is_recorded_in_bounded_steps(engines: Engines) -> None:
    offers = [draft("anna", f"e{n}", kind="code") for n in range(7)]
    await engines.publisher.publish(offers, NOW)
    await engines.pool.expire(3, NOW + timedelta(days=4))
    assert set((await engines.stored(USERS)).values()) == {int(End.EXPIRED)}


async def test_a_campaign_that_was_cut_off_goes_on(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"u{number:04}" for number in range(2 * BATCH + 5)]
    await engines.prepare(users)
    campaigns = Campaigns(engines.database, engines.types, engines.publisher)
    campaign = campaigns_pb2.Campaign(campaign_id="c", item_id="i", event_type="news")
    launch = Launch("r", campaign, b"digest")
    publish_in, calls = engines.publisher.publish_in, 0

    async def cut_off(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Aborted("the process was killed")
        return await publish_in(*args)  # type: ignore[arg-type]

    audience = Audience(
        subject=Subject(Direction.USERS_TO_ITEM, "i"),
        ids=users,
        scores=[1.0] * len(users),
        relevance=[0.5] * len(users),
        counts=[0] * len(users),
        warm=True,
        subject_count=0,
    )
    monkeypatch.setattr(engines.publisher, "publish_in", cut_off)
    with pytest.raises(Aborted):
        await campaigns.launch(launch, audience, NOW)
    assert (await campaigns.get("c")).event_count == BATCH
    answer = await campaigns.replayed(launch, NOW)
    assert answer is not None
    assert answer.state == campaigns_pb2.CAMPAIGN_STATE_LAUNCHED
    assert answer.event_count == len(await engines.stored(users)) == len(users)


def test_routes_and_ends_have_the_protos_numbers() -> None:
    assert [int(route) for route in Route] == [1, 2, 3]
    assert [int(end) for end in End] == [1, 2, 3, 4, 5, 6]
