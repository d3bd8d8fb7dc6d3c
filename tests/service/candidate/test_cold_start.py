"""Users for items that nobody has seen: by attributes, and by text."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from heliograph.candidate.v1alpha1 import recommending_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.candidate.text import weights
from services.runtime.settings import RuntimeSettings
from tests.conftest import StartSystem
from tests.service.candidate.calls import (
    NOW,
    Candidate,
    fields_of,
    follows,
    friend,
    interaction,
    reason_of,
    stamp,
)

USERS = [f"u{number:02}" for number in range(30)]
SPACE = ["Star Wars", "Alien", "Apollo 13", "Star Trek", "Stargate", "Contact"]
LOVE = ["Sleepless in Seattle", "Pretty Woman", "Titanic", "Ghost", "Dirty Dancing", "Notting Hill"]


async def prepare(candidate: Candidate, *, genres: bool) -> None:
    """The first half of the users likes films about space, the second half love stories."""
    await candidate.users([event_pb2.User(user_id=name) for name in USERS])
    items = []
    for kind, titles in (("space", SPACE), ("love", LOVE)):
        for title in titles:
            item = event_pb2.Item(item_id=title, title=title, create_time=stamp(NOW))
            if genres:
                item.attributes["genre"].string_value = kind
            items.append(item)
    await candidate.items(items)
    liked = [
        interaction(user, title, moment=NOW - timedelta(hours=7 * ((u * 6 + t) * 37 % 180)))
        for u, user in enumerate(USERS)
        for t, title in enumerate(SPACE if u < 15 else LOVE)
        if (u + t) % 3
    ]
    await candidate.interactions(liked)


async def share_of_space_lovers(candidate: Candidate, item: event_pb2.Item) -> float:
    request = recommending_pb2.RecommendUsersToItemRequest(item=item)
    request.parameters.count = 15
    answer = await candidate.stub.RecommendUsersToItem(request)
    assert answer.basis == recommending_pb2.BASIS_COLD_START
    assert answer.interaction_count == 0
    return sum(user.user_id < "u15" for user in answer.users) / 15


async def test_a_new_item_finds_users_by_its_attributes(candidate: Candidate) -> None:
    await prepare(candidate, genres=True)
    new = event_pb2.Item(item_id="new", title="?")
    new.attributes["genre"].string_value = "space"
    assert await share_of_space_lovers(candidate, new) >= 0.8
    new.attributes["genre"].string_value = "love"
    assert await share_of_space_lovers(candidate, new) <= 0.2


async def test_a_new_item_has_attributes_of_the_types_of_stored_ones(candidate: Candidate) -> None:
    """Converted where that is exact; one that no stored item has says nothing."""
    await prepare(candidate, genres=True)
    dated = event_pb2.Item(item_id="dated", title="?")
    dated.attributes["year"].int_value = 1996
    await candidate.items([dated])
    new = event_pb2.Item(item_id="new", title="?")
    new.attributes["genre"].string_value = "space"
    new.attributes["year"].string_value = "1996"
    users = recommending_pb2.RecommendUsersToItemRequest(item=new)
    estimate = recommending_pb2.EstimateAudienceRequest(item=new)
    for call, request in (
        (candidate.stub.RecommendUsersToItem, users),
        (candidate.stub.EstimateAudience, estimate),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(request)
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(failure.value) == "ATTRIBUTE_TYPE"
        assert fields_of(failure.value) == ['item.attributes["year"]']
        assert "year is int" in (failure.value.details() or "")
    new.attributes["year"].number_value = 1996.0
    exact = await share_of_space_lovers(candidate, new)
    new.attributes["studio"].string_value = "of which nothing is known"
    assert await share_of_space_lovers(candidate, new) == exact


async def test_a_stored_item_that_nobody_has_seen_is_found_the_same(candidate: Candidate) -> None:
    await prepare(candidate, genres=True)
    stored = event_pb2.Item(item_id="stored", title="?")
    stored.attributes["genre"].string_value = "love"
    await candidate.items([stored])
    request = recommending_pb2.RecommendUsersToItemRequest(item_id="stored")
    request.parameters.count = 15
    answer = await candidate.stub.RecommendUsersToItem(request)
    assert answer.basis == recommending_pb2.BASIS_COLD_START
    assert sum(user.user_id >= "u15" for user in answer.users) >= 12


async def test_a_newcomer_is_given_what_those_like_whom_she_follows(candidate: Candidate) -> None:
    await prepare(candidate, genres=False)
    await candidate.users([event_pb2.User(user_id=name) for name in ("new-1", "new-2")])
    ties = follows("new-1", "u03"), follows("new-1", "u07"), friend("new-2", "u21")
    assert (await candidate.relations(*ties)).rejected_count == 0
    for user, films in (("new-1", SPACE), ("new-2", LOVE)):
        request = recommending_pb2.RecommendItemsToUserRequest(user_id=user)
        request.parameters.count = 5
        answer = await candidate.stub.RecommendItemsToUser(request)
        assert answer.basis == recommending_pb2.BASIS_COLD_START
        assert {item.item_id for item in answer.items} < set(films)


@pytest.mark.timeout(120)
async def test_a_new_item_finds_users_by_its_text_alone(start_system: StartSystem) -> None:
    folder = weights.model_folder(RuntimeSettings().model_dir)
    weights.fetch(folder)
    environ = {
        "HELIOGRAPH_MODEL_DIR": str(folder.parent),
        "HELIOGRAPH_CANDIDATE_EMBED_INTERVAL": "PT0.1S",
    }
    async with start_system("candidate", environ=environ) as system:
        candidate = Candidate(system.channel("candidate"))
        await prepare(candidate, genres=False)
        about_space = event_pb2.Item(item_id="a", title="Astronauts fly to Mars in a spaceship")
        about_love = event_pb2.Item(item_id="b", title="Two lonely people fall in love in New York")
        async with asyncio.timeout(60):  # vectors are made in the background
            while await share_of_space_lovers(candidate, about_space) < 0.7:
                await candidate.pool("u00")
        assert await share_of_space_lovers(candidate, about_love) <= 0.3
