"""Wraps each method's handler in the frame, once, for all four kinds of calls.

Wrapped when a servicer registers, not by server interceptors: those cost several coroutines per
call, more than all that the frame does.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError, Message

from services.runtime.errors import InvalidArgument, Unimplemented
from services.runtime.incoming import Context, Frame, IncomingCall, MethodFrame
from services.runtime.validation import check

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Any]


def wrap(frame: Frame, name: str, handler: Handler) -> Handler:
    """`handler` with the frame around it: ids, deadline, authorisation, admission, simulated time,
    validation, errors, metrics and log. Raises TypeError for a handler that is not asyncio."""
    streams_in, streams_out = bool(handler.request_streaming), bool(handler.response_streaming)
    method = MethodFrame(frame, name, streams=streams_out)
    build = _streamed if streams_out else _single
    return _MAKERS[streams_in, streams_out](
        build(method, behaviour_of(name, handler), streams_in),
        request_deserializer=_tolerant(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


def behaviour_of(name: str, handler: Handler) -> Behaviour:
    """The function behind a method: a coroutine function, or for streamed responses an async
    generator. What a servicer left out answers UNIMPLEMENTED. Raises TypeError for other kinds."""
    behaviour: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    streamed = bool(handler.response_streaming)
    if streamed and inspect.isasyncgenfunction(behaviour):
        return cast(Behaviour, behaviour)
    if not streamed and inspect.iscoroutinefunction(behaviour):
        return cast(Behaviour, behaviour)
    if getattr(behaviour, "__module__", "").endswith("_pb2_grpc"):
        return _streamed_unimplemented if streamed else _unimplemented
    kind = "an async generator" if streamed else "a coroutine function"
    raise TypeError(f"the handler of {name} must be {kind}")


async def _unimplemented(_: object, __: Context) -> Any:
    raise Unimplemented("this service does not offer this method")


async def _streamed_unimplemented(request: object, context: Context) -> AsyncIterator[Any]:
    yield await _unimplemented(request, context)


_MAKERS: dict[tuple[bool, bool], Callable[..., Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _single(method: MethodFrame, behaviour: Behaviour, streams_in: bool) -> Behaviour:
    if streams_in:

        async def stream_unary(requests: AsyncIterator[Message], context: Context) -> Any:
            async with IncomingCall(method, context):
                return await behaviour(_checked(requests), context)

        return stream_unary

    async def unary_unary(request: Message, context: Context) -> Any:
        async with IncomingCall(method, context):
            check(_parsed(request))
            return await behaviour(request, context)

    return unary_unary


def _streamed(method: MethodFrame, behaviour: Behaviour, streams_in: bool) -> Behaviour:
    if streams_in:

        async def stream_stream(
            requests: AsyncIterator[Message], context: Context
        ) -> AsyncIterator[Any]:
            async with IncomingCall(method, context):
                async for response in behaviour(_checked(requests), context):
                    yield response

        return stream_stream

    async def unary_stream(request: Message, context: Context) -> AsyncIterator[Any]:
        async with IncomingCall(method, context):
            check(_parsed(request))
            async for response in behaviour(request, context):
                yield response

    return unary_stream


async def _checked(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    async for request in requests:
        check(_parsed(request))
        yield request


class _Unreadable:
    """Stands for bytes that are not the method's message, until a handler can refuse them."""


def _tolerant(
    parse: Callable[[bytes], Any] | None,
) -> Callable[[bytes], Message | _Unreadable] | None:
    """gRPC answers UNKNOWN when a deserializer raises; this way callers are told what is wrong."""

    if parse is None:
        return None

    def parsed(data: bytes) -> Message | _Unreadable:
        try:
            message: Message = parse(data)
            return message
        except DecodeError:
            return _Unreadable()

    return parsed


def _parsed(request: Message | _Unreadable) -> Message:
    if isinstance(request, _Unreadable):
        raise InvalidArgument("the bytes are not this method's request message", reason="MALFORMED")
    return request
