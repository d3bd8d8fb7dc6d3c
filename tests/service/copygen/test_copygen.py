"""copygen on real Postgres and real gRPC, beside peers that serve its two logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2
from heliograph.copygen.v1alpha1 import copygen_pb2, copygen_pb2_grpc
from heliograph.policy.v1alpha1 import feed_pb2, policy_pb2_grpc
from heliograph.type.v1alpha1 import event_pb2, notification_pb2
from sqlalchemy import text

from services.runtime.clock import at
from services.runtime.partitions import existing_days
from tests.conftest import OpenDatabase, StartSystem

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
PUSH = notification_pb2.CHANNEL_PUSH


def movie_type(title: str = "{{ item.title }} for you") -> event_pb2.EventType:
    return event_pb2.EventType(
        name="movie.suggestion",
        version=1,
        route=event_pb2.ROUTE_RANKED,
        channels=[PUSH],
        templates=[
            event_pb2.Template(channel=PUSH, title=title, body="Open it"),
            event_pb2.Template(channel=PUSH, locale="de", title="{{ item.title }} für dich"),
        ],
    )


class Peers(candidate_pb2_grpc.CandidateServiceServicer, policy_pb2_grpc.PolicyServiceServicer):
    """The two logs that copygen follows."""

    address = ""

    def __init__(self) -> None:
        self.content = [movie_type()]
        self.entries: list[feed_pb2.FeedEntry] = []
        self.oldest_entry = 0
        """Entries before it have been dropped."""

    async def WatchItems(
        self, request: catalogue_pb2.WatchItemsRequest, context: Any
    ) -> AsyncIterator[catalogue_pb2.WatchItemsResponse]:
        read = int(request.cursor or 0)
        if read < len(self.content):
            yield catalogue_pb2.WatchItemsResponse(
                items=[event_pb2.Item(item_id="50", title="Star Wars", content_version=1)],
                event_types=self.content[read:],
                cursor=str(len(self.content)),
            )

    async def ReadFeed(
        self, request: feed_pb2.ReadFeedRequest, context: Any
    ) -> feed_pb2.ReadFeedResponse:
        read = int((request.cursor or f"0:{self.oldest_entry}").split(":")[1])
        if read < self.oldest_entry:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "cursor is too old")
        return feed_pb2.ReadFeedResponse(
            entries=self.entries[read:], cursor=f"0:{len(self.entries)}"
        )


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    servicer = Peers()
    server = grpc.aio.server()
    candidate_pb2_grpc.add_CandidateServiceServicer_to_server(servicer, server)
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    servicer.address = f"127.0.0.1:{port}"
    yield servicer
    await server.stop(None)


def delivery(number: int, **changes: Any) -> copygen_pb2.DeliveryKey:
    event = event_pb2.Event(
        user_id="7", event_id=f"e{number}", event_type="movie.suggestion", item_ids=["50"]
    )
    given: dict[str, Any] = {
        "delivery_id": f"20260105.{number:04}",
        "user_id": "7",
        "event": event,
        "channel": PUSH,
        "locale": "en",
    }
    return copygen_pb2.DeliveryKey(**(given | changes))


async def pick(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub,
    *keys: copygen_pb2.DeliveryKey,
    dry: bool = False,
) -> copygen_pb2.PickVariantsResponse:
    request = copygen_pb2.PickVariantsRequest(deliveries=keys, dry_run=dry)
    with at(NOW):
        answer: copygen_pb2.PickVariantsResponse = await stub.PickVariants(request)
    return answer


@pytest.fixture
async def stub(
    peers: Peers, start_system: StartSystem
) -> AsyncIterator[copygen_pb2_grpc.CopygenServiceAsyncStub]:
    environ = {
        "HELIOGRAPH_CANDIDATE_ADDRESS": peers.address,
        "HELIOGRAPH_POLICY_ADDRESS": peers.address,
    }
    async with start_system("copygen", simulation=True, environ=environ) as system:
        yield copygen_pb2_grpc.CopygenServiceStub(system.channel("copygen"))


async def test_the_template_in_the_readers_locale(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub,
) -> None:
    answer = await pick(stub, delivery(1), delivery(2, locale="de-AT"))
    assert [copy.title for copy in answer.copies] == ["Star Wars for you", "Star Wars für dich"]
    assert [(copy.variant_id, copy.propensity) for copy in answer.copies] == [("template", 1.0)] * 2


async def test_invariant_9_the_template_needs_nothing_but_the_database(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub, start_system: StartSystem
) -> None:
    """A fresh process, with empty caches, no language model and no other service to ask."""
    await pick(stub, delivery(1))
    nobody = {
        "HELIOGRAPH_CANDIDATE_ADDRESS": "127.0.0.1:1",
        "HELIOGRAPH_POLICY_ADDRESS": "127.0.0.1:1",
    }
    async with start_system("copygen", simulation=True, environ=nobody) as system:
        alone = copygen_pb2_grpc.CopygenServiceStub(system.channel("copygen"))
        answer = await pick(alone, delivery(1), delivery(2))
        news = event_pb2.Event(
            user_id="7", event_id="e3", event_type="movie.suggestion", item_ids=["not-read-yet"]
        )
        mixed = await pick(alone, delivery(3, event=news), delivery(4))
    assert [copy.variant_id for copy in answer.copies] == ["template"] * 2
    assert [copy.title for copy in answer.copies] == ["Star Wars for you"] * 2
    assert not answer.rejections
    # Only what nobody here has heard of waits for candidate.
    assert [(one.index, one.reason) for one in mixed.rejections] == [(0, "CONTENT_UNAVAILABLE")]
    assert [copy.delivery_id for copy in mixed.copies] == ["20260105.0004"]


async def test_words_of_a_delivery_never_change(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub, peers: Peers
) -> None:
    """Invariant 7: the stored words stand, whatever happens to the template."""
    first = await pick(stub, delivery(1))
    changed = movie_type("Something else")
    changed.version = 2
    peers.content.append(changed)
    with at(NOW.replace(hour=10)):
        await stub.PickVariants(copygen_pb2.PickVariantsRequest(deliveries=[delivery(2)]))
    assert (await pick(stub, delivery(1))).copies == first.copies
    stored = await stub.ListChoices(copygen_pb2.ListChoicesRequest(delivery_ids=["20260105.0001"]))
    assert stored.copies == first.copies
    with at(NOW.replace(hour=11)):
        later = await stub.PickVariants(copygen_pb2.PickVariantsRequest(deliveries=[delivery(3)]))
    assert later.copies[0].title == "Something else"


async def test_concurrent_picks_agree(stub: copygen_pb2_grpc.CopygenServiceAsyncStub) -> None:
    answers = await asyncio.gather(*(pick(stub, delivery(1), delivery(2)) for _ in range(8)))
    assert all(answer.copies == answers[0].copies for answer in answers)


async def test_a_batch_never_loses_the_good_ones(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub,
) -> None:
    unknown = event_pb2.Event(user_id="7", event_id="e", event_type="nobody.knows")
    answer = await pick(
        stub,
        delivery(1),
        delivery(2, channel=0),
        delivery(3, event=unknown),
        delivery(1),
        delivery(4, delivery_id="20250105.0004"),
        delivery(5, channel=notification_pb2.CHANNEL_EMAIL),
        delivery(6),
        delivery(7, delivery_id="99991231.0007"),
    )
    assert [copy.delivery_id for copy in answer.copies] == ["20260105.0001", "20260105.0006"]
    reasons = {rejected.index: rejected.reason for rejected in answer.rejections}
    assert reasons == {
        1: "INVALID_FIELD",
        2: "UNKNOWN_EVENT_TYPE",
        3: "DUPLICATE",
        4: "INVALID_FIELD",
        5: "NO_TEMPLATE",
        7: "INVALID_FIELD",
    }
    assert answer.rejections[0].fields[0].field == "channel"


async def test_a_dry_run_stores_nothing(stub: copygen_pb2_grpc.CopygenServiceAsyncStub) -> None:
    answer = await pick(stub, delivery(1), dry=True)
    assert answer.copies[0].title == "Star Wars for you"
    request = copygen_pb2.ListChoicesRequest(delivery_ids=["20260105.0001"])
    assert not (await stub.ListChoices(request)).copies


async def put(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub, request_id: str, title: str
) -> copygen_pb2.Variant:
    variant = copygen_pb2.Variant(
        event_type="movie.suggestion", item_id="50", channel=PUSH, title=title, style="curious"
    )
    with at(NOW):
        answer = await stub.PutVariant(
            copygen_pb2.PutVariantRequest(request_id=request_id, variant=variant)
        )
    return answer.variant


async def test_a_variant_is_chosen_only_while_live(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub,
) -> None:
    made = await put(stub, "r1", "What happened far, far away?")
    assert made.state == copygen_pb2.VARIANT_STATE_PENDING
    assert await put(stub, "r1", "What happened far, far away?") == made
    keys = [delivery(n) for n in range(60)]
    pending = await pick(stub, *keys, dry=True)
    assert {copy.variant_id for copy in pending.copies} == {"template"}
    with at(NOW):
        await stub.ApproveVariant(copygen_pb2.ApproveVariantRequest(variant_id=made.variant_id))
    live = await pick(stub, *keys, dry=True)
    assert {copy.variant_id for copy in live.copies} == {"template", made.variant_id}
    with at(NOW):
        await stub.BlockVariant(copygen_pb2.BlockVariantRequest(variant_id=made.variant_id))
    blocked = await pick(stub, *keys, dry=True)
    assert {copy.variant_id for copy in blocked.copies} == {"template"}


async def test_variants_are_listed_by_page(stub: copygen_pb2_grpc.CopygenServiceAsyncStub) -> None:
    for number in range(3):
        await put(stub, f"r{number}", f"Title {number}")
    request = copygen_pb2.ListVariantsRequest(event_type="movie.suggestion", page_size=2)
    page = await stub.ListVariants(request)
    assert [variant.title for variant in page.variants] == ["Title 2", "Title 1"]
    request.page_token = page.next_page_token
    page = await stub.ListVariants(request)
    assert [variant.title for variant in page.variants] == ["Title 0"]
    assert not page.next_page_token


async def test_wrong_requests_are_answered_plainly(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub,
) -> None:
    async def status(call: Any) -> grpc.StatusCode:
        with at(NOW), pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return caught.value.code()

    pb = copygen_pb2
    await put(stub, "r1", "One")
    code = grpc.StatusCode
    other = pb.Variant(event_type="movie.suggestion", channel=PUSH, title="Two")
    unknown = pb.Variant(event_type="nobody.knows", channel=PUSH, title="Two")
    approve = pb.ApproveVariantRequest(variant_id="none")
    page = pb.ListVariantsRequest(event_type="movie.suggestion", page_token="rubbish")
    score = pb.ScoreTextsRequest(texts=["a"])
    put_request = pb.PutVariantRequest
    assert (
        await status(stub.PutVariant(put_request(request_id="r1", variant=other)))
        == code.ALREADY_EXISTS
    )
    assert (
        await status(stub.PutVariant(put_request(request_id="r2", variant=unknown)))
        == code.NOT_FOUND
    )
    for field in ("locale", "style"):
        null = pb.Variant(
            event_type="movie.suggestion", channel=PUSH, title="Two", **{field: "a\0b"}
        )
        refused = stub.PutVariant(put_request(request_id="r3", variant=null))
        assert await status(refused) == code.INVALID_ARGUMENT
    assert await status(stub.ApproveVariant(approve)) == code.NOT_FOUND
    assert await status(stub.ListVariants(page)) == code.INVALID_ARGUMENT
    assert await status(stub.ScoreTexts(score)) == code.FAILED_PRECONDITION
    assert await status(stub.PickVariants(pb.PickVariantsRequest())) == code.INVALID_ARGUMENT
    generation = stub.Generate(pb.GenerateRequest(event_type="movie.suggestion", item_ids=["50"]))
    assert await status(generation.read()) == code.FAILED_PRECONDITION


async def test_outcomes_follow_the_feed_in_any_order(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub, peers: Peers
) -> None:
    stamp = Timestamp()
    stamp.FromDatetime(NOW)
    opened = feed_pb2.EngagementEntry(
        decision_id="20260105.d", kind=notification_pb2.ENGAGEMENT_KIND_OPEN
    )
    sent = feed_pb2.SendEntry(decision_id="20260105.d", variant_id="template")
    peers.entries.append(feed_pb2.FeedEntry(event_time=stamp, user_id="7", engagement=opened))
    peers.entries.append(feed_pb2.FeedEntry(event_time=stamp, user_id="7", send=sent))
    await pick(stub, delivery(1))
    with at(NOW.replace(hour=10)):
        await stub.PickVariants(copygen_pb2.PickVariantsRequest(deliveries=[delivery(1)]))
        removed = await stub.EraseUser(copygen_pb2.EraseUserRequest(user_id="7"))
    assert removed.removed_count == 2


def sent(decision_id: str) -> feed_pb2.FeedEntry:
    stamp = Timestamp()
    stamp.FromDatetime(NOW)
    entry = feed_pb2.SendEntry(decision_id=decision_id, variant_id="template")
    return feed_pb2.FeedEntry(event_time=stamp, user_id="7", send=entry)


async def test_old_words_and_outcomes_go_and_young_ones_stay(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub, peers: Peers, open_database: OpenDatabase
) -> None:
    peers.entries.append(sent("20260105.d"))
    await pick(stub, delivery(1))
    with at(NOW + timedelta(days=90)):
        kept = await stub.PickVariants(
            copygen_pb2.PickVariantsRequest(deliveries=[delivery(2, delivery_id="20260405.0002")])
        )
    assert kept.copies
    listed = copygen_pb2.ListChoicesRequest(delivery_ids=["20260105.0001", "20260405.0002"])
    with at(NOW + timedelta(days=90)):
        assert len((await stub.ListChoices(listed)).copies) == 2
    with at(NOW + timedelta(days=91)):
        assert [copy.delivery_id for copy in (await stub.ListChoices(listed)).copies] == [
            "20260405.0002"
        ]
    async with open_database("copygen").read() as work:
        assert await existing_days(work, "outcomes") == []
        assert await existing_days(work, "choices") == [date(2026, 4, 5)]


async def test_after_a_gap_it_reads_on_from_what_the_feed_still_has(
    stub: copygen_pb2_grpc.CopygenServiceAsyncStub, peers: Peers, open_database: OpenDatabase
) -> None:
    peers.entries.append(sent("20260105.read"))
    await pick(stub, delivery(1))
    peers.entries += [sent("20260105.missed"), sent("20260105.kept")]
    peers.oldest_entry = 2
    for minutes in (1, 2):
        with at(NOW + timedelta(minutes=minutes)):
            await stub.PickVariants(copygen_pb2.PickVariantsRequest(deliveries=[delivery(1)]))
    async with open_database("copygen").read() as work:
        rows = await work.rows(text("SELECT decision_id FROM outcomes ORDER BY 1"))
    assert [row.decision_id for row in rows] == ["20260105.kept", "20260105.read"]
