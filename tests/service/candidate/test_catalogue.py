"""Users, items, interactions, their changes, and forgetting a user."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from heliograph.candidate.v1alpha1 import catalogue_pb2, publishing_pb2, recommending_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2
from sqlalchemy import text

from services.runtime.clock import at
from services.runtime.database import Database
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import (
    IMMEDIATE,
    NOW,
    Candidate,
    event,
    event_type,
    follows,
    friend,
    interaction,
    reasons,
    stamp,
)


async def test_bad_users_items_and_interactions_are_rejected_alone(candidate: Candidate) -> None:
    infinite = event_pb2.User(user_id="inf")
    infinite.attributes["age"].number_value = float("inf")
    no_time = event_pb2.User(user_id="time")
    no_time.attributes["since"].time_value.seconds = 10**15
    no_span = event_pb2.User(user_id="span")
    no_span.attributes["visit"].duration_value.seconds = 2**63 - 1
    empty = event_pb2.User(user_id="empty", attributes={"x": attribute_pb2.AttributeValue()})
    anna = event_pb2.User(user_id="anna")
    users = await candidate.users([infinite, no_time, no_span, empty, anna])
    assert reasons(users.rejections) == dict.fromkeys(range(4), "INVALID_FIELD")
    assert users.rejections[1].fields[0].field == 'attributes["since"].time_value'
    assert users.rejections[2].fields[0].field == 'attributes["visit"].duration_value'
    long = event_pb2.Item(item_id="long", title="x" * 513)
    items = await candidate.items([long, event_pb2.Item(item_id="film")])
    assert reasons(items.rejections) == {0: "INVALID_FIELD"}
    answer = await candidate.interactions(
        [
            interaction("anna", "film"),
            interaction("anna", "film"),
            interaction("nobody", "film"),
            interaction("anna", "nothing"),
            interaction("anna", "film", float("nan")),
            interaction("anna", "film", 11),
            interaction("anna", "film", moment=NOW + timedelta(days=1)),
            event_pb2.Interaction(user_id="anna", item_id="film"),
            interaction("anna", "film", 5e-324),
        ]
    )
    assert (answer.accepted_count, answer.rejected_count) == (2, 7)
    assert reasons(answer.rejections) == {
        2: "UNKNOWN_USER",
        3: "UNKNOWN_ITEM",
        4: "INVALID_FIELD",
        5: "INVALID_FIELD",
        6: "INVALID_FIELD",
        7: "INVALID_FIELD",
        8: "INVALID_FIELD",
    }
    liked = await candidate.stub.RecommendUsersToItem(
        recommending_pb2.RecommendUsersToItemRequest(
            item_id="film",
            parameters=recommending_pb2.RecommendationParameters(include_interacted=True),
        )
    )
    assert liked.interaction_count == 1


async def test_changes_carry_versions_and_end_at_the_present(candidate: Candidate) -> None:
    kind = event_type("news")
    await candidate.prepare(items=["a", "b"], kinds=[kind])
    first = await candidate.changes()
    assert [item.item_id for part in first for item in part.items] == ["a", "b"]
    assert [kind.name for part in first for kind in part.event_types] == ["news"]
    cursor = first[-1].cursor
    assert await candidate.changes(cursor) == []
    await candidate.items(
        [event_pb2.Item(item_id="a", title="a"), event_pb2.Item(item_id="b", title="new")]
    )
    (again,) = await candidate.changes(cursor)
    assert [(item.item_id, item.title, item.content_version) for item in again.items] == [
        ("b", "new", 2)
    ]
    assert again.items[0].create_time == stamp(NOW)


async def test_many_changes_come_in_batches(candidate: Candidate) -> None:
    names = [f"i{number:04}" for number in range(700)]
    await candidate.prepare(items=names)
    parts = await candidate.changes()
    assert len(parts) == 2
    assert [item.item_id for part in parts for item in part.items] == names


async def test_a_following_stream_sees_later_changes(candidate: Candidate) -> None:
    await candidate.prepare(items=["a"])
    stream = candidate.stub.WatchItems(catalogue_pb2.WatchItemsRequest(follow=True))
    seen = aiter(stream)
    assert [item.item_id for item in (await anext(seen)).items] == ["a"]
    await candidate.prepare(items=["b"])
    later = await asyncio.wait_for(anext(seen), 10)
    assert [item.item_id for item in later.items] == ["b"]
    stream.cancel()


async def test_a_deleted_item_takes_its_events_along(candidate: Candidate) -> None:
    await candidate.prepare(["anna"], ["film"], [event_type("news")])
    await candidate.publish(event("anna", "a", item_ids=["film"]), event("anna", "b"))
    await candidate.items([event_pb2.Item(item_id="film", deleted=True)])
    assert await candidate.pool_ids("anna") == ["b"]
    assert (await candidate.history("anna"))["a"].end_reason == "ITEM_DELETED"
    with at(NOW + timedelta(minutes=2)), pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.stub.RecommendUsersToItem(
            recommending_pb2.RecommendUsersToItemRequest(item_id="film")
        )
    assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_users_of_the_future_are_rejected(candidate: Candidate) -> None:
    """But for what the clocks of producers may be wrong by: 300 seconds."""
    ahead = [timedelta(days=-900), timedelta(seconds=300), timedelta(seconds=301)]
    times = [*(NOW + span for span in ahead), datetime(9999, 12, 31, tzinfo=UTC)]
    answer = await candidate.users(
        [
            event_pb2.User(user_id=f"born-{place}", create_time=stamp(moment))
            for place, moment in enumerate(times)
        ]
    )
    assert (answer.accepted_count, answer.rejected_count) == (2, 2)
    assert reasons(answer.rejections) == dict.fromkeys((2, 3), "INVALID_FIELD")
    assert [one.fields[0].field for one in answer.rejections] == ["create_time"] * 2


async def test_erasing_a_user_leaves_nothing(candidate: Candidate) -> None:
    kinds = [event_type("news"), event_type("code", IMMEDIATE)]
    await candidate.prepare(["anna", "bert"], ["film"], kinds)
    await candidate.interactions([interaction("anna", "film"), interaction("bert", "film")])
    await candidate.publish(event("anna", "a"), event("anna", "b", "code"), event("bert", "a"))
    request = catalogue_pb2.EraseUserRequest(user_id="anna")
    # two events, one arrival, one interaction, the user
    assert (await candidate.stub.EraseUser(request)).removed_count == 5
    assert (await candidate.stub.EraseUser(request)).removed_count == 0
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.stub.ListUserEvents(publishing_pb2.ListUserEventsRequest(user_id="anna"))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    assert await candidate.lease() == []
    assert await candidate.pool_ids("bert") == ["a"]
    again = await candidate.publish(event("anna", "c"))
    assert reasons(again.rejections) == {0: "UNKNOWN_USER"}
    with at(NOW + timedelta(minutes=2)):
        audience = await candidate.stub.RecommendUsersToItem(
            recommending_pb2.RecommendUsersToItemRequest(
                item_id="film",
                parameters=recommending_pb2.RecommendationParameters(include_interacted=True),
            )
        )
    assert [user.user_id for user in audience.users] == ["bert"]


async def test_erasing_an_unknown_user_is_no_error(candidate: Candidate) -> None:
    answer = await candidate.stub.EraseUser(catalogue_pb2.EraseUserRequest(user_id="nobody"))
    assert answer.removed_count == 0


async def test_relations_are_stored_once_and_removed(
    candidate: Candidate, open_database: OpenDatabase
) -> None:
    """Of several with one key the last counts, and a friendship is one from either side."""
    await candidate.prepare(["anna", "bert", "carl"])
    answer = await candidate.relations(
        follows("anna", "studio", 0.5),
        follows("anna", "studio", 0.25),
        friend("bert", "anna"),
        friend("anna", "bert", 0.5),
        follows("carl", "anna"),
        follows("carl", "bert"),
        follows("carl", "bert", removed=True),
    )
    assert (answer.accepted_count, answer.rejected_count) == (7, 0)
    database = open_database("candidate")
    assert await stored_relations(database) == [
        ("anna", 1, "studio", 0.25),
        ("anna", 2, "bert", 0.5),
        ("carl", 1, "anna", 1.0),
    ]
    again = await candidate.relations(
        friend("bert", "anna", removed=True), follows("nobody", "x", removed=True)
    )
    assert again.accepted_count == 2
    assert len(await stored_relations(database)) == 2


async def test_bad_relations_are_rejected_alone(
    candidate: Candidate, open_database: OpenDatabase
) -> None:
    await candidate.prepare(["anna", "bert"])
    answer = await candidate.relations(
        follows("nobody", "bert"),
        friend("anna", "nobody"),
        follows("anna", "anna"),
        follows("anna", "bert", 1.5),
        follows("anna", "bert", 5e-324),
        catalogue_pb2.Relation(user_id="anna", target_id="bert"),
        follows("anna", "nobody"),
    )
    assert answer.accepted_count == 1
    assert reasons(answer.rejections) == {
        0: "UNKNOWN_USER",
        1: "UNKNOWN_USER",
        **dict.fromkeys(range(2, 6), "INVALID_FIELD"),
    }
    assert answer.rejections[1].fields[0].field == "target_id"
    assert await stored_relations(open_database("candidate")) == [("anna", 1, "nobody", 1.0)]


async def test_erasing_a_user_ends_ties_in_both_directions(
    candidate: Candidate, open_database: OpenDatabase
) -> None:
    await candidate.prepare(["anna", "bert", "carl"])
    await candidate.relations(
        follows("anna", "bert"), follows("carl", "anna"), friend("carl", "anna"),
        friend("bert", "carl"), follows("bert", "anna"),
    )  # fmt: skip
    await candidate.relations(follows("bert", "anna", removed=True))
    answer = await candidate.stub.EraseUser(catalogue_pb2.EraseUserRequest(user_id="anna"))
    assert answer.removed_count == 5  # three ties, one of the past, and the user
    database = open_database("candidate")
    assert await stored_relations(database) == [("bert", 2, "carl", 1.0)]
    assert await stored_relations(database, "removed_relations") == []


async def stored_relations(
    database: Database, table: str = "relations"
) -> list[tuple[object, ...]]:
    strength = "strength" if table == "relations" else "0"
    query = text(f"SELECT user_id, kind, target_id, {strength} FROM {table} ORDER BY 1, 2, 3")
    async with database.read() as work:
        return [tuple(row) for row in await work.rows(query)]


async def test_an_empty_stream_is_no_error(candidate: Candidate) -> None:
    assert (await candidate.stub.UpsertUsers(iter([]))).accepted_count == 0


async def test_an_oversized_batch_is_refused(candidate: Candidate) -> None:
    users = [event_pb2.User(user_id=f"{number}") for number in range(1001)]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.users(users)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
