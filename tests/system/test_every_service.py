"""What every service answers, whoever asks: health, reflection, plain words to bad calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from services.runtime.settings import SERVICE_NAMES
from tests.conftest import RunningSystem, StartSystem


def service_descriptor(name: str) -> Any:
    module = import_module(f"heliograph.{name}.v1alpha1.{name}_pb2")
    return module.DESCRIPTOR.services_by_name[f"{name.capitalize()}Service"]


METHODS = [(name, method) for name in SERVICE_NAMES for method in service_descriptor(name).methods]
# These answer an empty request: it asks for everything, or for nothing in particular.
EMPTY_IS_VALID = {
    "ListEventTypes", "ReadArrivals", "WatchItems", "ListModels", "ReadFeed", "ListScenarios",
    "ListTeamQuotas", "ListAttributeTypes", "ReportExposure",
    "GetThresholds", "WatchVolume", "ListObjectives", "ListExperiments", "ListPauses",
    "StreamSendability", "ProcessUsers", "GetBacklog",
}  # fmt: skip


@pytest.fixture
async def system(start_system: StartSystem) -> AsyncIterator[RunningSystem]:
    async with start_system(*SERVICE_NAMES, simulation=True) as running:
        yield running


async def refusal(
    system: RunningSystem, name: str, method: MethodDescriptor, request: bytes
) -> grpc.aio.AioRpcError | None:
    """The error that a method answers to these bytes as its only message; None when it answers."""
    try:
        await call(system, name, method, request)
    except grpc.aio.AioRpcError as error:
        return error
    return None


def shown(method: MethodDescriptor, error: grpc.aio.AioRpcError | None) -> str:
    told = "accepted" if error is None else f"{error.code().name} {error.details()}"
    return f"{method.full_name}: {told}"


async def call(system: RunningSystem, name: str, method: MethodDescriptor, request: bytes) -> None:
    """Call a method with these bytes as its only message, and read one answer."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    channel = system.channel(name)
    if method.client_streaming:
        stream = channel.stream_unary(path)

        async def one() -> AsyncIterator[bytes]:
            yield request

        await stream(one(), timeout=20)
    elif method.server_streaming:
        answers = channel.unary_stream(path)(request, timeout=20)
        await answers.read()
        answers.cancel()
    else:
        await channel.unary_unary(path)(request, timeout=20)


def reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)
    assert status is not None, f"{error.code()} {error.details()} has no details"
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    raise AssertionError("no ErrorInfo")


async def test_health_and_reflection(system: RunningSystem) -> None:
    for name in SERVICE_NAMES:
        full_name = service_descriptor(name).full_name
        health = health_pb2_grpc.HealthStub(system.channel(name))
        for asked in ("", full_name):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=asked))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(system.channel(name))
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        listed = await stub.ServerReflectionInfo(iter([request])).read()
        names = {service.name for service in listed.list_services_response.service}
        assert {full_name, "grpc.health.v1.Health"} <= names


async def test_empty_requests(system: RunningSystem) -> None:
    """An empty message is answered, or refused by field; never INTERNAL, UNKNOWN or silence."""
    for name, method in METHODS:
        error = await refusal(system, name, method, b"")
        if method.name == "GenerateDaily":  # valid, but its event type isn't registered here
            assert error is not None
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, shown(method, error)
            continue
        assert (error is None) == (method.name in EMPTY_IS_VALID), shown(method, error)
        if error is not None:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, shown(method, error)
            assert reason(error) == "INVALID_FIELD", shown(method, error)


async def test_bytes_that_are_no_message(system: RunningSystem) -> None:
    for name, method in METHODS:
        error = await refusal(system, name, method, b"\xff\xff\xff\xff not a message")
        assert error is not None, shown(method, error)
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, shown(method, error)


async def test_requests_over_the_size_limit(system: RunningSystem) -> None:
    for name, method in METHODS:
        error = await refusal(system, name, method, bytes(17 * 2**20))
        assert error is not None, shown(method, error)
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, shown(method, error)


async def test_unknown_things_are_not_found_or_rejected(system: RunningSystem) -> None:
    """Ids of nothing: NOT_FOUND with a reason, an empty answer, or a rejection; never a crash."""
    allowed = {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
    for name, method in METHODS:
        request = message_factory.GetMessageClass(method.input_type)()
        if not _fill(request):
            continue
        error = await refusal(system, name, method, request.SerializeToString())
        if error is not None:
            assert error.code() in allowed, shown(method, error)
            assert reason(error), shown(method, error)


def _fill(request: Any) -> bool:
    """Put an id that nobody knows into every plain id field; False when there is none."""
    filled = False
    for field in request.DESCRIPTOR.fields:
        if field.type != field.TYPE_STRING or not field.name.endswith(("_id", "_ids")):
            continue
        filled = True
        if field.is_repeated:
            getattr(request, field.name).append("nobody")
        else:
            setattr(request, field.name, "nobody")
    return filled
