"""Every field of every request, hostile in turn: answered, or refused by field; never a crash.

Methods are found in the services' descriptors and fields in the requests', so that a new one is
tried without a change here. All tests share one system, which has to bear what they store.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from itertools import count
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2

from services.runtime.clock import at
from services.runtime.settings import SERVICE_NAMES
from tests.conftest import RunningSystem, StartSystem
from tests.system.hostile import Change, changes
from tests.system.seeds import DELIVERY, FRESH, NOON, Known, Seeds, prepare

pytestmark = pytest.mark.asyncio(loop_scope="module")

Code = grpc.StatusCode
ALLOWED = {
    Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.ALREADY_EXISTS,
    Code.RESOURCE_EXHAUSTED, Code.OUT_OF_RANGE, Code.UNIMPLEMENTED, Code.ABORTED,
}  # fmt: skip
SEED_ANSWERS = {"Generate": Code.FAILED_PRECONDITION, "ScoreTexts": Code.FAILED_PRECONDITION}
"""What seeds are answered where it isn't OK: there is no language model and no reward model."""
DEADLINE_S, STREAM_S, AT_ONCE, SHOWN = 20.0, 0.2, 8, 40


@dataclass(frozen=True)
class Method:
    """A method, and a user of its own, so that one's doings don't hide another's."""

    service: str
    descriptor: MethodDescriptor
    user: str

    def __str__(self) -> str:
        return f"{self.service}-{self.descriptor.name}"

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"


def methods() -> Iterator[Method]:
    numbers = count()
    for name in SERVICE_NAMES:
        module = import_module(f"heliograph.{name}.v1alpha1.{name}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield Method(name, method, f"user-{next(numbers):02}")


METHODS = list(methods())


@dataclass(frozen=True)
class Answer:
    """What one request was answered; `problem` is what no request may be answered."""

    code: grpc.StatusCode
    details: str = ""
    problem: str = ""
    rejected: str = ""

    def __str__(self) -> str:
        return f"{self.code.name} {self.details}{self.rejected} ({self.problem})"


@dataclass(frozen=True)
class Target:
    """The running system."""

    system: RunningSystem
    known: Known
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def seeds(self, method: Method) -> Seeds:
        return Seeds(self.known.ids[method.user])

    async def answer(self, method: Method, request: Message) -> Answer:
        """Send it with fresh keys, and judge the answer."""
        data = request.SerializeToString()
        data = data.replace(FRESH.encode(), f"f{next(self.numbers):07}".encode())
        if DELIVERY.encode() in data:
            data = data.replace(DELIVERY.encode(), self.known.deliveries.pop().encode())
        kind = message_factory.GetMessageClass(method.descriptor.output_type)
        began = time.monotonic()
        try:
            answers = [kind.FromString(part) for part in await self._call(method, data)]
        except grpc.aio.AioRpcError as error:
            took = f" after {time.monotonic() - began:.1f} s"
            return Answer(error.code(), f"{error.details()}{took}", _problem(error))
        rejections = [one for part in answers for one in getattr(part, "rejections", ())]
        return Answer(
            Code.OK,
            problem="; ".join(filter(None, map(_rejection_problem, rejections))),
            rejected="; ".join(one.message for one in rejections),
        )

    async def _call(self, method: Method, data: bytes) -> list[bytes]:
        channel: Any = self.system.channel(method.service)
        if method.descriptor.client_streaming:
            assert not method.descriptor.server_streaming, "this test can't call both ways yet"

            async def one() -> AsyncIterator[bytes]:
                yield data

            return [await channel.stream_unary(method.path)(one(), timeout=DEADLINE_S)]
        if not method.descriptor.server_streaming:
            return [await channel.unary_unary(method.path)(data, timeout=DEADLINE_S)]
        return await _read(channel.unary_stream(method.path)(data, timeout=DEADLINE_S))


async def _read(call: Any) -> list[bytes]:
    """What a stream brings until it ends, or stays open to tell of changes."""
    found: list[bytes] = []
    try:
        while True:
            patience = STREAM_S if found else DEADLINE_S + 1
            part = await asyncio.wait_for(call.read(), patience)
            if part is grpc.aio.EOF:
                return found
            found.append(part)
    except TimeoutError:
        return found
    finally:
        call.cancel()


def _problem(error: grpc.aio.AioRpcError) -> str:
    if error.code() not in ALLOWED:
        return "no request may cause this status"
    status = rpc_status.from_call(error)
    bad = error_details_pb2.BadRequest()
    named = [*status.details] if status else []
    if error.code() is Code.INVALID_ARGUMENT and not any(
        detail.Unpack(bad) and bad.field_violations for detail in named
    ):
        return "no field is named"
    return ""


def _rejection_problem(rejection: Any) -> str:
    if not re.fullmatch("[A-Z][A-Z_]+", rejection.reason) or not rejection.message:
        return f"a rejection without a reason: {rejection}"
    if rejection.reason == "INVALID_FIELD" and not rejection.fields:
        return f"a rejection that names no field: {rejection}"
    return ""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(start_shared_system: StartSystem) -> AsyncIterator[Target]:
    environ = {"HELIOGRAPH_ACCESS_LOG": "off"}
    async with start_shared_system(*SERVICE_NAMES, simulation=True, environ=environ) as system:
        with at(NOON):
            known = await prepare(system, [method.user for method in METHODS])
        yield Target(system, known)


@pytest.mark.parametrize("method", METHODS, ids=str)
async def test_hostile_fields(target: Target, method: Method) -> None:
    """Each field hostile in turn, the others valid."""
    with at(NOON):
        await _check_seed(target, method)
        seeds = target.seeds(method)
        seed = seeds.request(method.descriptor.input_type)
        made = list(changes(seed, seeds.fill))
        answers = await _try_all(target, method, seed, made)
    bad = [
        f"{change.path} = {change.value}: {answer}"
        for change, answer in zip(made, answers, strict=True)
        if answer.problem
    ]
    assert not bad, "\n".join([f"{method.path}: {len(bad)} of {len(made)}", *bad[:SHOWN]])
    fields = {each.name for each in method.descriptor.input_type.fields}
    changed = {re.split(r"[.\[]", change.path.removeprefix("key of "))[0] for change in made}
    assert fields <= changed, "some field was left alone"
    assert len(made) >= 2 * len(fields)


async def _try_all(
    target: Target, method: Method, seed: Message, made: list[Change]
) -> list[Answer]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def try_out(change: Change) -> Answer:
        request = type(seed)()
        request.CopyFrom(seed)
        change.apply(request)
        async with gate:
            return await target.answer(method, request)

    answers = await asyncio.gather(*map(try_out, made))
    for place, answer in enumerate(answers):
        if answer.code is Code.ABORTED:  # by another change at the same time, which hides the own
            answers[place] = await try_out(made[place])
            assert answers[place].code is not Code.ABORTED, made[place]
    return answers


async def _check_seed(target: Target, method: Method) -> None:
    """The unchanged request is answered, all of it: otherwise its changes would prove nothing."""
    seed = target.seeds(method).request(method.descriptor.input_type)
    answer = await target.answer(method, seed)
    told = f"{method.path}: {answer}\n{seed}"
    assert answer.code is SEED_ANSWERS.get(method.descriptor.name, Code.OK), told
    assert not answer.rejected, told


async def test_every_stored_template_is_rendered_or_refused(target: Target) -> None:
    """The hostile templates, too, that PutEventType has taken."""
    preview = next(method for method in METHODS if method.descriptor.name == "PreviewEvent")
    event = target.seeds(preview).request(preview.descriptor.input_type)
    candidate = candidate_pb2_grpc.CandidateServiceStub(target.system.channel("candidate"))
    answered = set()
    with at(NOON):
        listed = await candidate.ListEventTypes(catalogue_pb2.ListEventTypesRequest(page_size=1000))
        for kind in listed.event_types:
            event.event.event_type = kind.name
            answer = await target.answer(preview, event)
            assert not answer.problem, f"{kind}: {answer}"
            answered.add(answer.code)
    assert Code.OK in answered


async def test_every_method_answers_after_all_that(target: Target) -> None:
    """What was stored on the way spoils no later call."""
    with at(NOON + timedelta(minutes=1)):
        for name in SERVICE_NAMES:
            stub = health_pb2_grpc.HealthStub(target.system.channel(name))
            health = await stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
            assert health.status == health_pb2.HealthCheckResponse.SERVING, name
        for method in METHODS:
            await _check_seed(target, method)
