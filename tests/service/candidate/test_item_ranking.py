"""Events of several items: in the user's order on the way into the pool and on the way out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from heliograph.candidate.v1alpha1 import pool_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.runtime.clock import at
from tests.service.candidate.calls import IMMEDIATE, NOW, Candidate, event, event_type, interaction

FANS = {"war": ["w1", "w2", "w3"], "love": ["l1", "l2", "l3"]}
ITEMS = [item for liked in FANS.values() for item in liked]


async def stock(candidate: Candidate, *, swapped: bool = False) -> None:
    """Six users of each taste; each leaves out one item, another one each."""
    users = {f"{taste}-{n}": liked for taste, liked in FANS.items() for n in range(6)}
    await candidate.prepare(list(users), ITEMS, [event_type("news"), event_type("code", IMMEDIATE)])
    others = {user: FANS["love" if user.startswith("war") else "war"] for user in users}
    liked = [
        interaction(user, item, moment=NOW - timedelta(hours=1 + swapped))
        for user, items in (others if swapped else users).items()
        for place, item in enumerate(items)
        if place != int(user[-1]) % 3
    ]
    if swapped:
        liked = [
            interaction(like.user_id, like.item_id, weight=10, moment=NOW - timedelta(hours=3))
            for like in liked
        ] + [
            interaction(user, item, weight=-10, moment=NOW - timedelta(hours=3))
            for user, items in users.items()
            for item in items
        ]
    await candidate.interactions(liked)


async def test_items_are_ordered_at_entry_and_again_when_taken(candidate: Candidate) -> None:
    await stock(candidate)
    with at(NOW + timedelta(minutes=2)):  # the index has noticed
        mixed = ["l2", "w1", "unknown", "l1", "w2"]
        await candidate.publish(event("war-0", "e", item_ids=mixed), event("new", "e"))
        stored = (await candidate.history("war-0"))["e"].event
        assert set(stored.item_ids[:2]) == {"w1", "w2"}
        assert stored.item_ids[2] == "unknown"
        assert 0.3 < stored.source_score < 1
        (taken,) = (await candidate.pool("war-0"))["war-0"]
        assert taken == stored
        await stock(candidate, swapped=True)
    with at(NOW + timedelta(minutes=4)):
        (taken,) = (await candidate.pool("war-0"))["war-0"]
        assert set(taken.item_ids[:2]) == {"l1", "l2"}
        assert (await candidate.history("war-0"))["e"].event == stored


@pytest.mark.parametrize("score", [0.25, 1.0])
async def test_the_publishers_score_stands(candidate: Candidate, score: float) -> None:
    await stock(candidate)
    with at(NOW + timedelta(minutes=2)):
        await candidate.publish(event("war-0", "e", item_ids=["l1", "w1"], source_score=score))
        (taken,) = (await candidate.pool("war-0"))["war-0"]
    assert (taken.source_score, list(taken.item_ids)) == (score, ["w1", "l1"])


async def test_deleted_items_leave_the_list(candidate: Candidate) -> None:
    await stock(candidate)
    await candidate.publish(event("war-0", "e", item_ids=["l1", "w1", "w2"]))
    await candidate.items([event_pb2.Item(item_id=item, deleted=True) for item in ("w1", "l1")])
    (taken,) = (await candidate.pool("war-0"))["war-0"]
    assert list(taken.item_ids) == ["w2"]
    await candidate.items([event_pb2.Item(item_id="w2", deleted=True)])
    assert await candidate.pool("war-0") == {}


async def test_leased_events_have_their_live_items_best_first(candidate: Candidate) -> None:
    await stock(candidate)
    code = event("war-0", "e", "code", item_ids=["l1", "w1", "w2"])
    await candidate.publish(code, event("war-0", "one", "code", item_ids=["w2"]))
    await candidate.items([event_pb2.Item(item_id="w2", deleted=True)])
    with at(NOW + timedelta(minutes=2)):  # the index has noticed
        answer = await candidate.stub.LeaseReady(pool_pb2.LeaseReadyRequest(owner="pacer"))
    assert {one.event_id: list(one.item_ids) for one in answer.events} == {"e": ["w1", "l1"]}
