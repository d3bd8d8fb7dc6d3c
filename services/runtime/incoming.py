"""What the frame does around every incoming call: before the handler, and when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_hex
from types import TracebackType
from typing import Any, Literal

import grpc

from services.runtime import calls, clock, errors, metrics
from services.runtime.access import Authoriser
from services.runtime.admission import Admission
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Internal, InvalidArgument
from services.runtime.failures import translate
from services.runtime.logs import Logger
from services.runtime.periodic import Tasks

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = Mapping[str, str | bytes]
AccessLog = Literal["errors", "all", "off"]

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(slots=True)
class Frame:
    """What all calls of one server share."""

    service: str
    clock: Clock
    tasks: Tasks
    log: Logger
    access_log: AccessLog
    authoriser: Authoriser | None
    calls: Admission
    streams: Admission


class MethodFrame:
    """What all calls of one method share."""

    def __init__(self, frame: Frame, name: str, *, streams: bool) -> None:
        self.frame = frame
        self.name = name
        self.admission = frame.streams if streams else frame.calls
        short = name.rsplit("/", 1)[-1]
        self._count = metrics.counter(
            frame.service, "calls", "", "Calls answered, by status.", ["method", "code"]
        )
        self._short = short
        self._counted: dict[grpc.StatusCode, Any] = {}
        self._seconds = metrics.histogram(
            frame.service, "call", "seconds", "Time to answer a call.", ["method"]
        ).labels(short)
        self.open = metrics.gauge(
            frame.service, "open_calls", "", "Calls under way.", ["method"]
        ).labels(short)

    def record(self, code: grpc.StatusCode, seconds: float) -> None:
        """Count one ended call."""
        counted = self._counted.get(code)
        if counted is None:
            counted = self._counted[code] = self._count.labels(self._short, code.name)
        counted.inc()
        self._seconds.observe(seconds)


class IncomingCall:
    """One call, from its metadata to its status; an async context manager around the handler."""

    __slots__ = ("_admitted", "_context", "_method", "_request_id", "_started")

    def __init__(self, method: MethodFrame, context: Context) -> None:
        self._method = method
        self._context = context
        self._admitted = False
        self._started = 0.0
        self._request_id = ""

    async def __aenter__(self) -> None:
        self._started = time.monotonic()
        self._method.open.inc()
        try:
            await self._begin()
        except BaseException as error:
            await self._end(error)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end(error)

    async def _begin(self) -> None:
        context, method, frame = self._context, self._method, self._method.frame
        metadata: Metadata = dict(context.invocation_metadata() or ())
        self._request_id = calls.set_request_id(
            _text(metadata.get(calls.REQUEST_ID_METADATA_KEY, ""))
        )
        calls.set_deadline(context.time_remaining())
        if frame.authoriser is not None:
            frame.authoriser.check(method.name, context.auth_context())
        method.admission.enter()
        self._admitted = True
        if (moment := metadata.get(clock.TIME_METADATA_KEY)) is not None:
            await self._take_time(_text(moment))

    async def _take_time(self, text: str) -> None:
        frame = self._method.frame
        if not frame.clock.simulation:
            raise InvalidArgument(
                f"metadata {clock.TIME_METADATA_KEY} is for simulation mode, which is off "
                "(HELIOGRAPH_SIMULATION)",
                reason="SIMULATION_OFF",
            )
        moment = clock.parse_time(text)
        clock.set_moment(moment)
        frame.clock.observe(moment)
        await frame.tasks.run_due(moment)

    async def _end(self, error: BaseException | None) -> None:
        """Count and log the call; a failure is turned into its status (and raises AbortError)."""
        method, context = self._method, self._context
        method.open.dec()
        if self._admitted:
            method.admission.leave()
        seconds = time.monotonic() - self._started
        failure = self._failure(error)
        code = errors.status_code(failure) if failure is not None else self._code(error)
        method.record(code, seconds)
        self._log(code, failure, seconds)
        if failure is not None:
            status = errors.rich_status(failure)
            trailing = (
                (calls.REQUEST_ID_METADATA_KEY, self._request_id),
                (errors.STATUS_DETAILS_KEY, status.SerializeToString()),
            )
            await context.abort(code, status.message, trailing)

    def _failure(self, error: BaseException | None) -> DomainError | None:
        """What to tell the caller; None when the call ended well, was cancelled, or the handler
        set the status itself."""
        if not isinstance(error, Exception) or isinstance(error, grpc.aio.AbortError):
            return None
        known = translate(error)
        if known is not None:
            return known
        error_id = token_hex(8)
        self._method.frame.log.error(
            "call failed unexpectedly",
            method=self._method.name,
            error_id=error_id,
            exc_info=error,
        )
        return Internal(
            f"internal error {error_id}; the log says more", metadata={"error_id": error_id}
        )

    def _code(self, error: BaseException | None) -> grpc.StatusCode:
        if error is None or isinstance(error, grpc.aio.AbortError):
            return _status(self._context.code())
        if isinstance(error, asyncio.CancelledError) and calls.remaining() == 0:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        return grpc.StatusCode.CANCELLED

    def _log(self, code: grpc.StatusCode, failure: DomainError | None, seconds: float) -> None:
        frame = self._method.frame
        if frame.access_log == "off" or (
            code is grpc.StatusCode.OK and frame.access_log == "errors"
        ):
            return
        facts: dict[str, object] = {
            "method": self._method.name,
            "code": code.name,
            "seconds": round(seconds, 6),
        }
        if failure is not None:
            facts |= {"reason": failure.reason, "message": failure.message}
        frame.log.info("call", **facts)


def _status(code: grpc.StatusCode | int | None) -> grpc.StatusCode:
    """The status that a handler set: grpc.aio keeps it as a number, and none as 0."""
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
