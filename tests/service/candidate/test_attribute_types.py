"""The type of an attribute is decided once, and values of another are told at the door."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from heliograph.candidate.v1alpha1 import attribute_types_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2
from sqlalchemy import text

from services.candidate.attribute_types import AttributeTypes, Owner
from services.candidate.catalogue import CatalogueWriter
from services.candidate.catalogue_store import Record
from services.candidate.expressions import AttributeType
from services.candidate.messages import attribute_types
from services.runtime.database import Database
from tests.conftest import OpenDatabase
from tests.service.candidate.calls import NOW, Candidate, reason_of, reasons

Value = attribute_pb2.AttributeValue
USER = attribute_types_pb2.ATTRIBUTE_OWNER_USER
INT, DOUBLE = attribute_types_pb2.ATTRIBUTE_TYPE_INT, attribute_types_pb2.ATTRIBUTE_TYPE_DOUBLE
FIRST = event_pb2.User(user_id="first", attributes={"age": Value(int_value=30)})


def user(name: str, value: Value, attribute: str = "age") -> event_pb2.User:
    return event_pb2.User(user_id=name, attributes={attribute: value})


def record(offered: event_pb2.User) -> Record:
    body = offered.SerializeToString(deterministic=True)
    return Record(offered.user_id, body, None, types=attribute_types(offered.attributes))


async def stored(database: Database) -> dict[str, dict[str, Any]]:
    async with database.read() as work:
        rows = await work.rows(text("SELECT user_id, body FROM users"))
    return {
        row.user_id: {
            name: getattr(value, value.WhichOneof("kind") or "")
            for name, value in event_pb2.User.FromString(row.body).attributes.items()
        }
        for row in rows
    }


async def types_of(candidate: Candidate) -> dict[str, int]:
    request = attribute_types_pb2.ListAttributeTypesRequest(page_size=1)
    found: dict[str, int] = {}
    while True:
        answer = await candidate.stub.ListAttributeTypes(request)
        found |= {each.name: each.type for each in answer.attributes}
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def test_the_first_value_decides_and_others_are_told(
    candidate: Candidate, open_database: OpenDatabase
) -> None:
    """A replay answers the same, a rejected user decides nothing, and items are apart."""
    offered = [
        FIRST,
        user("half", Value(number_value=44.5)),
        user("whole", Value(number_value=44.0)),
        user("text", Value(string_value="44")),
        user("score", Value(number_value=0.5), "score"),
        user("ten", Value(int_value=10), "score"),
        user("many", Value(int_value=2**53 + 1), "score"),
    ]
    offered[1].attributes["new"].bool_value = True
    for _ in range(2):
        answer = await candidate.users(offered)
        assert reasons(answer.rejections) == dict.fromkeys((1, 3, 6), "ATTRIBUTE_TYPE")
        (wrong,) = answer.rejections[0].fields
        assert wrong.field == 'attributes["age"]'
        assert answer.rejections[1].message == (
            'attributes["age"] is string; age is int, as decided at 2026-01-05T09:00:00+00:00'
        )
        assert "exactly" in answer.rejections[2].message
    found = await stored(open_database("candidate"))
    assert found["whole"] == {"age": 44}
    assert isinstance(found["whole"]["age"], int)
    assert isinstance(found["ten"]["score"], float)
    assert await types_of(candidate) == {"age": INT, "score": DOUBLE}
    item = event_pb2.Item(item_id="film", attributes={"age": Value(string_value="12+")})
    assert (await candidate.items([item])).rejected_count == 0
    item.attributes["item_type"].int_value = 3
    assert reasons((await candidate.items([item])).rejections) == {0: "INVALID_FIELD"}


async def test_two_writers_at_once_store_one_type(open_database: OpenDatabase) -> None:
    """Whoever commits first decides; the other waits and is judged by it."""
    first, second = open_database("candidate"), open_database("candidate")
    late = CatalogueWriter(second, AttributeTypes(second), timedelta(days=30))
    text_user = record(user("b", Value(string_value="3"), "level"))
    async with first.unit_of_work() as work:
        mine = [record(user("a", Value(int_value=3), "level"))]
        admitted = await AttributeTypes(first).admitted(work, Owner.USER, mine, NOW)
        waiting = asyncio.create_task(late.put_users([text_user], NOW))
        await _until_waiting(second)
        assert not admitted.refusals
        await work.commit()
    assert {place: each.reason for place, each in (await waiting).items()} == {0: "ATTRIBUTE_TYPE"}


async def test_a_type_that_is_rolled_back_is_not_remembered(open_database: OpenDatabase) -> None:
    database = open_database("candidate")
    types = AttributeTypes(database)
    async with database.unit_of_work() as work:
        await types.admitted(work, Owner.USER, [record(FIRST)], NOW)
    writer = CatalogueWriter(database, types, timedelta(days=30))
    texts = [record(user("b", Value(string_value="3")))]
    assert await writer.put_users(texts, NOW) == {}
    assert [each.type for each in await types.page(("", ""), 9)] == [AttributeType.STRING]


async def _until_waiting(database: Database) -> None:
    query = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
    async with asyncio.timeout(20):
        while True:
            async with database.read() as work:
                (row,) = await work.rows(query)
            if row[0]:
                return
            await asyncio.sleep(0.01)


async def test_an_operator_corrects_a_type(candidate: Candidate) -> None:
    await candidate.users([user("a", Value(string_value="3"), "level")])
    three = user("b", Value(int_value=3), "level")
    assert (await candidate.users([three])).rejected_count == 1
    request = attribute_types_pb2.SetAttributeTypeRequest(
        request_id="r1",
        attribute=attribute_types_pb2.AttributeDeclaration(owner=USER, name="level", type=INT),
    )
    for _ in range(2):
        await candidate.stub.SetAttributeType(request)
    assert (await candidate.users([three])).rejected_count == 0
    assert await types_of(candidate) == {"level": INT}
    request.attribute.type = DOUBLE
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.stub.SetAttributeType(request)
    assert reason_of(failure.value) == "REQUEST_ID_REUSED"
    item_type = attribute_types_pb2.AttributeDeclaration(
        owner=attribute_types_pb2.ATTRIBUTE_OWNER_ITEM, name="item_type", type=INT
    )
    request = attribute_types_pb2.SetAttributeTypeRequest(request_id="r2", attribute=item_type)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await candidate.stub.SetAttributeType(request)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
