"""Channels to the other services: deadlines, metadata and retries are added to every call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import grpc
from grpc.aio import ClientCallDetails, ClientInterceptor

from services.runtime import calls, clock, metrics, tls
from services.runtime.retries import RetryBudget, pause_s
from services.runtime.settings import RuntimeSettings

RETRIED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED})

Request = TypeVar("Request")
Response = TypeVar("Response")
Requests = AsyncIterable[Request] | Iterable[Request]


class Peers:
    """Outgoing channels of one process, made on first use and kept.

    A call's deadline is the smaller of its own (for unary calls the default in the settings) and
    what is left of the incoming call's. Request id, simulated time and trace context go along.
    Unary calls that end UNAVAILABLE or ABORTED are tried again while the budget lasts; every
    method that may end so is idempotent by its natural keys.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        caller: str = "client",
        tracing: Sequence[ClientInterceptor] = (),
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._tracing = tuple(tracing)
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, name: str) -> grpc.aio.Channel:
        """The channel to the service `name`. Raises ConfigurationError for an unknown one."""
        found = self._channels.get(name)
        if found is None:
            target = self._settings.endpoint(name).target
            found = self._channels[name] = self._open(name, target)
        return found

    def channel_to(self, name: str, target: str) -> grpc.aio.Channel:
        """The same to a process that is none of the services, by its address; `name` is what it is
        called in metrics."""
        found = self._channels.get(name)
        if found is None:
            found = self._channels[name] = self._open(name, target)
        return found

    async def close(self) -> None:
        """Close all channels; calls under way are cancelled."""
        channels = list(self._channels.values())
        self._channels.clear()
        await asyncio.gather(*(channel.close() for channel in channels))

    def _open(self, name: str, target: str) -> grpc.aio.Channel:
        credentials = tls.channel_credentials(self._settings)
        options = channel_options(self._settings)
        outgoing = _Outgoing(self._settings, self._caller, name)
        interceptors = [
            _UnaryUnary(outgoing),
            _UnaryStream(outgoing),
            _StreamUnary(outgoing),
            _StreamStream(outgoing),
            *self._tracing,
        ]
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
        return grpc.aio.secure_channel(
            target, credentials, options=options, interceptors=interceptors
        )


def channel_options(settings: RuntimeSettings) -> list[tuple[str, int]]:
    """gRPC options of a channel between services."""
    return [
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.keepalive_time_ms", 30000),
        ("grpc.keepalive_timeout_ms", 5000),
    ]


class _Outgoing:
    """What is added to each call to one peer."""

    def __init__(self, settings: RuntimeSettings, caller: str, peer: str) -> None:
        self._default_s = settings.default_deadline_s
        self._simulation = settings.simulation
        self.attempts = settings.retry_attempts
        self.budget = RetryBudget(settings.retry_budget)
        self.retries = metrics.counter(
            caller, "peer_retries", "", "Calls to other services tried again.", ["peer"]
        ).labels(peer)

    def details(self, given: ClientCallDetails, *, unary: bool) -> ClientCallDetails:
        """The call's details with the deadline shortened and the metadata added."""
        metadata = grpc.aio.Metadata(*(given.metadata or ()))
        request = calls.request_id()
        if request and metadata.get(calls.REQUEST_ID_METADATA_KEY) is None:
            metadata.add(calls.REQUEST_ID_METADATA_KEY, request)
        moment = clock.current_moment()
        if self._simulation and moment is not None:
            metadata.set_all(clock.TIME_METADATA_KEY, [clock.format_time(moment)])
        return ClientCallDetails(
            given.method,
            self._timeout(given.timeout, unary),
            metadata,
            given.credentials,
            given.wait_for_ready,
        )

    def _timeout(self, given: float | None, unary: bool) -> float | None:
        own = self._default_s if given is None and unary else given
        left = calls.remaining()
        if own is None or left is None:
            return left if own is None else own
        return min(own, left)


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_unary(
        self,
        continuation: Callable[
            [ClientCallDetails, Request], Awaitable[grpc.aio.UnaryUnaryCall[Request, Response]]
        ],
        client_call_details: ClientCallDetails,
        request: Request,
    ) -> grpc.aio.UnaryUnaryCall[Request, Response]:
        outgoing = self._outgoing
        outgoing.budget.earn()
        details = outgoing.details(client_call_details, unary=True)
        ends = asyncio.get_running_loop().time() + (details.timeout or 0)
        for attempt in range(1, outgoing.attempts + 1):
            call = await continuation(details, request)
            if await _code(call) not in RETRIED or attempt == outgoing.attempts:
                break
            pause = pause_s(attempt)
            left = ends - asyncio.get_running_loop().time() - pause
            if left <= 0 or not outgoing.budget.spend():
                break
            outgoing.retries.inc()
            await asyncio.sleep(pause)
            details = _within(details, left)
        return call


def _within(details: ClientCallDetails, timeout: float) -> ClientCallDetails:
    return ClientCallDetails(
        details.method, timeout, details.metadata, details.credentials, details.wait_for_ready
    )


async def _code(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> grpc.StatusCode:
    try:
        return await call.code()
    except asyncio.CancelledError:
        call.cancel()
        raise


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_stream(
        self,
        continuation: Callable[
            [ClientCallDetails, Request], Awaitable[grpc.aio.UnaryStreamCall[Request, Response]]
        ],
        client_call_details: ClientCallDetails,
        request: Request,
    ) -> grpc.aio.UnaryStreamCall[Request, Response]:
        return await continuation(self._outgoing.details(client_call_details, unary=False), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_stream_unary(
        self,
        continuation: Callable[
            [ClientCallDetails, Requests[Request]],
            Awaitable[grpc.aio.StreamUnaryCall[Request, Response]],
        ],
        client_call_details: ClientCallDetails,
        request_iterator: Requests[Request],
    ) -> grpc.aio.StreamUnaryCall[Request, Response]:
        return await continuation(
            self._outgoing.details(client_call_details, unary=False), request_iterator
        )


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_stream_stream(
        self,
        continuation: Callable[
            [ClientCallDetails, Requests[Request]],
            Awaitable[grpc.aio.StreamStreamCall[Request, Response]],
        ],
        client_call_details: ClientCallDetails,
        request_iterator: Requests[Request],
    ) -> grpc.aio.StreamStreamCall[Request, Response]:
        return await continuation(
            self._outgoing.details(client_call_details, unary=False), request_iterator
        )
