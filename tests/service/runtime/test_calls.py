"""What the frame does around calls, seen by a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status.rpc_status import from_call
from heliograph.policy.v1alpha1 import control_pb2, policy_pb2_grpc, recipients_pb2, sendability_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.runtime import Host, calls
from services.runtime.errors import FailedPrecondition
from services.runtime.validation import rejection, violations
from tests.service.runtime.conftest import StartFrame
from tests.service.runtime.handlers import PolicyHandler, bind_policy, snooze

Detail = TypeVar("Detail", bound=Message)


def detail(error: grpc.aio.AioRpcError, kind: type[Detail]) -> Detail:
    """The only detail of one kind in a failed call's status."""
    found = kind()
    (packed,) = [one for one in from_call(error).details if one.Is(kind.DESCRIPTOR)]
    packed.Unpack(found)
    return found


async def policy_stub(start: StartFrame, handler: PolicyHandler, **settings: Any) -> Any:
    system = await start({"policy": bind_policy(handler)}, **settings)
    return policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))


async def test_a_good_call_is_answered(start_frame: StartFrame) -> None:
    stub = await policy_stub(start_frame, PolicyHandler())
    assert await stub.Snooze(snooze("u1")) == recipients_pb2.SnoozeResponse()


async def test_a_failure_names_its_request(start_frame: StartFrame) -> None:
    stub = await policy_stub(start_frame, PolicyHandler())
    for offered, usable in (("r-1", True), ("a b" * 50, False)):
        metadata = ((calls.REQUEST_ID_METADATA_KEY, offered),)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Snooze(snooze(""), metadata=metadata)
        shown = dict(refused.value.trailing_metadata())[calls.REQUEST_ID_METADATA_KEY]
        assert (shown == offered) is usable
        assert usable or len(shown) == 16


async def test_a_wrong_message_never_reaches_the_handler(start_frame: StartFrame) -> None:
    async def unexpected(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        raise AssertionError("the handler was called")

    stub = await policy_stub(start_frame, PolicyHandler(unexpected))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Snooze(recipients_pb2.SnoozeRequest(user_id="x" * 129))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    fields = detail(refused.value, error_details_pb2.BadRequest).field_violations
    assert {field.field for field in fields} == {"user_id", "until_time"}
    assert detail(refused.value, error_details_pb2.ErrorInfo).reason == "INVALID_FIELD"


async def test_each_message_of_a_stream_is_checked(start_frame: StartFrame) -> None:
    stub = await policy_stub(start_frame, PolicyHandler())
    good = recipients_pb2.UpsertRecipientsRequest(
        recipients=[recipients_pb2.Recipient(user_id="u1")]
    )

    async def requests(*last: recipients_pb2.UpsertRecipientsRequest) -> AsyncIterator[Message]:
        for request in (good, good, *last):
            yield request

    assert (await stub.UpsertRecipients(requests())).accepted_count == 2
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.UpsertRecipients(requests(recipients_pb2.UpsertRecipientsRequest()))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (field,) = detail(refused.value, error_details_pb2.BadRequest).field_violations
    assert field.field == "recipients"


def test_items_of_a_batch_are_judged_one_by_one() -> None:
    bad = recipients_pb2.Recipient(
        user_id="u1",
        slot_hours=[3, 24],
        endpoints=[recipients_pb2.Endpoint(channel=notification_pb2.CHANNEL_PUSH)],
    )
    assert violations(recipients_pb2.UpsertRecipientsRequest(recipients=[bad])) == []
    found = rejection(4, "INVALID_FIELD", "wrong", violations(bad))
    assert found.index == 4
    assert {field.field for field in found.fields} == {"slot_hours[1]", "endpoints[0].address"}
    muted = recipients_pb2.Preferences(muted_topics={"": True})
    assert violations(muted)[0].path == 'key of muted_topics[""]'


async def test_a_domain_error_has_status_and_reason(start_frame: StartFrame) -> None:
    async def refuse(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        raise FailedPrecondition(
            "snoozed already", reason="SNOOZED", retry_after=timedelta(seconds=2)
        )

    stub = await policy_stub(start_frame, PolicyHandler(refuse))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Snooze(snooze("u1"))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.details() == "snoozed already"
    assert detail(refused.value, error_details_pb2.ErrorInfo).reason == "SNOOZED"
    delay = detail(refused.value, error_details_pb2.RetryInfo).retry_delay
    assert delay.ToTimedelta() == timedelta(seconds=2)


async def test_an_unexpected_error_shows_only_an_id(
    start_frame: StartFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    async def break_down(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        raise RuntimeError("password=hunter2")

    stub = await policy_stub(start_frame, PolicyHandler(break_down))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Snooze(snooze("u1"))
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    error_id = detail(failed.value, error_details_pb2.ErrorInfo).metadata["error_id"]
    assert error_id in (failed.value.details() or "")
    assert "hunter2" not in str(from_call(failed.value))
    logged = capsys.readouterr()
    assert error_id in logged.out + logged.err
    assert "hunter2" in logged.out + logged.err


async def test_a_method_without_handler_is_unimplemented(start_frame: StartFrame) -> None:
    stub = await policy_stub(start_frame, PolicyHandler())
    request = recipients_pb2.EraseUserRequest(user_id="u1")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.EraseUser(request)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    sendability = stub.StreamSendability(sendability_pb2.StreamSendabilityRequest())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await sendability.read()
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_cancelled_stream_ends_its_handler(start_frame: StartFrame) -> None:
    handler = PolicyHandler()
    stub = await policy_stub(start_frame, handler)
    call = stub.WatchVolume(control_pb2.WatchVolumeRequest())
    assert await call.read() == control_pb2.WatchVolumeResponse()
    assert not handler.cancelled.is_set()
    call.cancel()
    async with asyncio.timeout(10):
        await handler.cancelled.wait()


async def test_a_passed_deadline_ends_the_handler(start_frame: StartFrame) -> None:
    ended = asyncio.Event()

    async def hang(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    stub = await policy_stub(start_frame, PolicyHandler(hang))
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await stub.Snooze(snooze("u1"), timeout=0.2)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(10):
        await ended.wait()


async def test_calls_beyond_the_limit_are_told_to_come_back(start_frame: StartFrame) -> None:
    inside, release = asyncio.Event(), asyncio.Event()

    async def wait(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        inside.set()
        await release.wait()
        return recipients_pb2.SnoozeResponse()

    stub = await policy_stub(start_frame, PolicyHandler(wait), max_concurrent_calls=1)
    first = asyncio.ensure_future(stub.Snooze(snooze("u1")))
    await inside.wait()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Snooze(snooze("u2"))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (
        detail(refused.value, error_details_pb2.RetryInfo).retry_delay.ToTimedelta() > timedelta()
    )
    release.set()
    await first
    await stub.Snooze(snooze("u3"))


async def test_an_oversized_message_is_refused(start_frame: StartFrame) -> None:
    stub = await policy_stub(start_frame, PolicyHandler(), max_message_bytes=2**16)
    request = recipients_pb2.UpsertRecipientsRequest(
        recipients=[recipients_pb2.Recipient(user_id="u" * 100) for _ in range(1000)]
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.UpsertRecipients(iter([request]))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_and_reflection_know_every_service(start_frame: StartFrame) -> None:
    system = await start_frame({"policy": bind_policy(PolicyHandler())})
    name = "heliograph.policy.v1alpha1.PolicyService"
    health = health_pb2_grpc.HealthStub(system.channel("policy"))
    for service in ("", name):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(system.channel("policy"))
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    (answer,) = [one async for one in reflection.ServerReflectionInfo(iter(asked))]
    assert name in {service.name for service in answer.list_services_response.service}


async def test_all_four_kinds_of_calls_pass_the_frame(start_frame: StartFrame) -> None:
    """The protos have no call that streams both ways; this one is made here."""
    service = "heliograph.policy.v1alpha1.EchoService"

    async def echo(requests: AsyncIterator[Message], context: object) -> AsyncIterator[Message]:
        async for request in requests:
            yield request

    def register(_: object, server: grpc.aio.Server) -> None:
        handler = grpc.stream_stream_rpc_method_handler(
            echo,
            request_deserializer=recipients_pb2.SnoozeRequest.FromString,
            response_serializer=recipients_pb2.SnoozeRequest.SerializeToString,
        )
        server.add_registered_method_handlers(service, {"Echo": handler})

    def add_echo(host: Host) -> None:
        host.add(register, None)

    system = await start_frame({"policy": bind_policy(PolicyHandler(), add_echo)})
    stub = policy_pb2_grpc.PolicyServiceStub(system.channel("policy"))
    answers = [one async for one in stub.WatchVolume(control_pb2.WatchVolumeRequest(once=True))]
    assert len(answers) == 1
    call = system.channel("policy").stream_stream(
        f"/{service}/Echo",
        request_serializer=recipients_pb2.SnoozeRequest.SerializeToString,
        response_deserializer=recipients_pb2.SnoozeRequest.FromString,
    )
    sent = [snooze("u1"), snooze("u2")]
    assert [one async for one in call(iter(sent))] == sent
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        _ = [one async for one in call(iter([snooze("u1"), snooze("")]))]
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_handler_of_the_wrong_kind_ends_the_start(start_frame: StartFrame) -> None:
    class Synchronous(PolicyHandler):
        def Snooze(self, request: object, context: object) -> Any:
            return recipients_pb2.SnoozeResponse()

    with pytest.raises(TypeError, match="Snooze must be a coroutine function"):
        await start_frame({"policy": bind_policy(Synchronous())})
