"""Inbox, previews, erasure, lists and bad input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from heliograph.pacer.v1alpha1 import pacer_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2

from services.pacer.store.erasures import ErasureStore
from services.runtime.clock import at
from tests.conftest import OpenDatabase
from tests.service.pacer.conftest import MORNING, SLOT, Pacer, StartPacer
from tests.service.pacer.peers import Peers

PUSH = notification_pb2.CHANNEL_PUSH
EVENT = event_pb2.Event(user_id="ann", event_id="test", event_type="alert")


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, list[str]]:
    """Status, reason and fields of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    reason, fields = "", []
    status = rpc_status.from_call(caught.value)
    assert status is not None
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason = info.reason
        if detail.Unpack(bad):
            fields = [violation.field for violation in bad.field_violations]
    return caught.value.code(), reason, fields


async def test_inbox_pages_newest_first(pacer: Pacer, peers: Peers) -> None:
    for number in range(7):
        time = MORNING + timedelta(minutes=number // 2)
        peers.publish_ready("ann", f"e{number}", time)
        await pacer.process(time)
    seen: list[str] = []
    token = ""
    for size in (3, 3, 1):
        answer = await pacer.stub.ReadInbox(
            pacer_pb2.ReadInboxRequest(user_id="ann", page_size=3, page_token=token)
        )
        assert len(answer.messages) == size
        seen += [message.event_id for message in answer.messages]
        token = answer.next_page_token
    assert not token
    assert len(set(seen)) == 7
    assert seen[0] == "e6"
    assert not await pacer.inbox("nobody")


async def test_slots_page_newest_first(pacer: Pacer, peers: Peers) -> None:
    peers.publish("ann", "e1", score=0.1)
    for day in range(3):
        await pacer.process(MORNING + timedelta(days=day))
        await pacer.process(SLOT + timedelta(days=day))
    one = await pacer.stub.ListSlots(pacer_pb2.ListSlotsRequest(user_id="ann", page_size=2))
    two = await pacer.stub.ListSlots(
        pacer_pb2.ListSlotsRequest(user_id="ann", page_token=one.next_page_token)
    )
    ids = [slot.slot_id for slot in (*one.slots, *two.slots)]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == len(ids) >= 4


@pytest.mark.parametrize("token", ["rubbish", "!", "W10", "WyJib2IiLCAiMjAyNiIsICJ4Il0"])
async def test_page_tokens_of_others_are_refused(pacer: Pacer, token: str) -> None:
    for call in (
        pacer.stub.ReadInbox(pacer_pb2.ReadInboxRequest(user_id="ann", page_token=token)),
        pacer.stub.ListSlots(pacer_pb2.ListSlotsRequest(user_id="ann", page_token=token)),
    ):
        code, _, fields = await refusal(call)
        assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


async def test_bad_input_is_refused_by_field(pacer: Pacer) -> None:
    stub = pacer.stub
    wrong: list[tuple[Any, str]] = [
        (stub.ProcessUsers(pacer_pb2.ProcessUsersRequest(user_ids=["ann", ""])), "user_ids[1]"),
        (stub.ProcessUsers(pacer_pb2.ProcessUsersRequest(user_ids=["a"] * 10_001)), "user_ids"),
        (stub.ReadInbox(pacer_pb2.ReadInboxRequest(user_id="a\n")), "user_id"),
        (stub.ReadInbox(pacer_pb2.ReadInboxRequest(user_id="a", page_size=1001)), "page_size"),
        (stub.ListSlots(pacer_pb2.ListSlotsRequest(user_id="a", page_size=-1)), "page_size"),
        (stub.ListAttempts(pacer_pb2.ListAttemptsRequest()), "delivery_ids"),
        (stub.ForgetUser(pacer_pb2.ForgetUserRequest(user_id="x" * 129)), "user_id"),
        (stub.PreviewEvent(pacer_pb2.PreviewEventRequest(channel=PUSH)), "event"),
        (stub.PreviewEvent(pacer_pb2.PreviewEventRequest(event=EVENT)), "channel"),
    ]
    for call, field in wrong:
        code, _, fields = await refusal(call)
        assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_unknown_and_odd_deliveries_have_no_attempts(pacer: Pacer) -> None:
    ids = ["nothing", "20260105.x", "20269999.x", "²0260105.x"]
    answer = await pacer.stub.ListAttempts(pacer_pb2.ListAttemptsRequest(delivery_ids=ids))
    assert not answer.attempts


async def test_preview_arrives_marked_and_decides_nothing(pacer: Pacer, peers: Peers) -> None:
    peers.put_type("alert")
    peers.recipients.add("ann")
    with at(MORNING):
        answer = await pacer.stub.PreviewEvent(
            pacer_pb2.PreviewEventRequest(event=EVENT, channel=PUSH, locale="de")
        )
    assert answer.message.preview
    assert answer.message.title == "alert test"
    assert await pacer.inbox("ann") == [answer.message]
    (request,) = peers.requests["PickVariants"]
    assert request.dry_run
    assert request.deliveries[0].locale == "de"
    assert not peers.requests["Decide"]


async def test_preview_says_what_is_missing(pacer: Pacer, peers: Peers) -> None:
    request = pacer_pb2.PreviewEventRequest(event=EVENT, channel=PUSH)
    unknown_type = await refusal(pacer.stub.PreviewEvent(request))
    assert unknown_type == (
        grpc.StatusCode.NOT_FOUND, "UNKNOWN_EVENT_TYPE", ["event.event_type"],
    )  # fmt: skip
    peers.put_type("alert")
    unknown_user = await refusal(pacer.stub.PreviewEvent(request))
    assert unknown_user == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER", ["event.user_id"])
    peers.recipients.add("ann")
    peers.rejected.add("test")
    code, reason, _ = await refusal(pacer.stub.PreviewEvent(request))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TEMPLATE_FAILED")
    del peers.types["alert"].channels[:]
    code, reason, fields = await refusal(pacer.stub.PreviewEvent(request))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CHANNEL_NOT_ALLOWED")
    assert fields == ["channel"]


async def test_forget_user_removes_it_everywhere(pacer: Pacer, peers: Peers) -> None:
    peers.publish_ready("ann", "e1", MORNING)
    peers.publish("ann", "e2")
    await pacer.process(MORNING)
    delivery_id = (await pacer.inbox("ann"))[0].delivery_id
    request = pacer_pb2.ForgetUserRequest(user_id="ann")
    with at(MORNING):
        answer = await pacer.stub.ForgetUser(request)
    services = ["candidate", "copygen", "pacer", "policy", "ranker"]
    assert (list(answer.done_services), list(answer.pending_services)) == (services, [])
    assert all(peers.erased[name] == {"ann"} for name in services if name != "pacer")
    assert not await pacer.inbox("ann")
    assert not await pacer.slots("ann")
    attempts = pacer_pb2.ListAttemptsRequest(delivery_ids=[delivery_id])
    assert not (await pacer.stub.ListAttempts(attempts)).attempts
    with at(MORNING):
        assert list((await pacer.stub.ForgetUser(request)).done_services) == services


async def test_forget_user_is_taken_up_again(
    pacer: Pacer, peers: Peers, open_database: OpenDatabase
) -> None:
    peers.refuse["EraseUser.ranker"] = grpc.StatusCode.UNAVAILABLE
    with at(MORNING):
        answer = await pacer.stub.ForgetUser(pacer_pb2.ForgetUserRequest(user_id="ann"))
    assert list(answer.pending_services) == ["ranker", "pacer"]
    assert list(answer.done_services) == ["candidate", "copygen", "policy"]
    peers.refuse.clear()
    store = ErasureStore(open_database("pacer"))
    assert await store.pending() == ["ann"]
    await pacer.process(MORNING + timedelta(minutes=10))  # resumes by itself
    assert peers.erased["ranker"] == {"ann"}
    assert len(peers.requests["EraseUser.candidate"]) == 1
    assert await store.pending() == []
    await pacer.process(MORNING + timedelta(minutes=20))  # the last sweep
    assert await store.due_sweeps(MORNING + timedelta(days=9)) == []


async def test_wall_mode_works_by_itself(start_pacer: StartPacer, peers: Peers) -> None:
    """The background loops, and ProcessUsers beside them."""
    async with start_pacer(simulation=False) as pacer:
        for number in range(20):
            peers.publish_ready(f"u{number}", "alarm", datetime.now(UTC))
        await pacer.stub.ProcessUsers(pacer_pb2.ProcessUsersRequest())
        delivered = peers.deliveries
        while len(delivered) < 20 or any(state.end is None for state in delivered.values()):
            await pacer.stub.GetBacklog(pacer_pb2.GetBacklogRequest())
        assert all([len(await pacer.inbox(f"u{number}")) == 1 for number in range(20)])
