"""Working under leases: who holds them, and giving them back when another service is down."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from services.pacer.report import HOLDS, IN_HAND
from services.runtime import clock
from services.runtime.clock import Clock
from services.runtime.errors import STATUS_DETAILS_KEY, DomainError
from services.runtime.logs import Logger

GiveBack = Callable[[], Awaitable[None]]

# What gRPC and the services say, under RESOURCE_EXHAUSTED, of a message over the size limit.
_TOO_LARGE_TEXT = "larger than max"
_TOO_LARGE_REASON = "RESPONSE_TOO_LARGE"


class Held(Exception):
    """A stage could not go on, because something it needs is down. Nothing is lost: what it had
    leased has been given back, or comes free when the lease runs out."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage} is held: {reason}")
        self.stage = stage
        self.reason = reason


class Owner:
    """The name under which this process leases."""

    def __init__(self) -> None:
        host = socket.gethostname()[:64]
        self.name = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)

    def batch(self) -> str:
        """A name for one batch alone, so that two batches of one process never mix."""
        return f"{self.name}-{next(self._numbers)}"


class Leases:
    """How one stage holds its batches: counted while in hand, given back on any failure.

    What can't be given back, because its owner is down too, is owed: the stage is held until it
    is paid, or the lease has run out by itself. So in simulation mode, where no lease runs out
    while the simulated time stands still, the same pass can be repeated.
    """

    def __init__(self, stage: str, clock: Clock, lease: timedelta, log: Logger) -> None:
        self._stage = stage
        self._clock = clock
        self._lease = lease
        self._log = log
        self._owed: list[tuple[datetime, GiveBack]] = []
        self.in_hand = 0
        self.oldest: datetime | None = None

    @asynccontextmanager
    async def holding(
        self,
        count: int,
        give_back: GiveBack,
        oldest: datetime | None = None,
    ) -> AsyncIterator[None]:
        """Work on `count` leased things inside. On an error or cancellation they are given back
        before it goes on."""
        self._count(count, oldest)
        try:
            yield
        except BaseException:
            await detached(self._give_back(give_back, self._clock.now() + self._lease))
            raise
        finally:
            self._count(-count, None)

    async def _give_back(self, give_back: GiveBack, until: datetime) -> None:
        try:
            await give_back()
        except (grpc.aio.AioRpcError, DomainError) as error:
            self._owed.append((until, give_back))
            self._log.warning(
                "a lease could not be given back yet", stage=self._stage, error=_text(error)
            )

    async def _pay(self) -> None:
        for debt in list(self._owed):
            until, give_back = debt
            if self._clock.now() < until:
                await give_back()
            if debt in self._owed:  # not paid by a pass beside this one
                self._owed.remove(debt)

    def _count(self, change: int, oldest: datetime | None) -> None:
        self.in_hand += change
        self.oldest = oldest if self.in_hand else None
        IN_HAND.labels(self._stage).set(self.in_hand)

    @asynccontextmanager
    async def hold_rule(self) -> AsyncIterator[None]:
        """Around each step: gives back what is owed, and turns the failure of another service, or
        of the database, into Held, which is counted."""
        try:
            await self._pay()
            yield
        except (grpc.aio.AioRpcError, DomainError) as error:
            reason = _reason(error)
            HOLDS.labels(self._stage, reason).inc()
            self._log.warning("stage held", stage=self._stage, reason=reason, error=_text(error))
            raise Held(self._stage, reason) from error


def is_too_large(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call failed because a message was over the size limit."""
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and (
        _TOO_LARGE_TEXT in (error.details() or "") or _error_reason(error) == _TOO_LARGE_REASON
    )


def is_refused(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call failed because of what was asked, not because of who was asked."""
    return error.code() is grpc.StatusCode.INVALID_ARGUMENT or is_too_large(error)


async def detached(work: Coroutine[Any, Any, None]) -> None:
    """Finish `work` even when the caller is cancelled or out of time. It keeps the simulated time
    and nothing else of the call."""
    moment = clock.current_moment()

    async def run() -> None:
        if moment is not None:
            clock.set_moment(moment)
        await work

    await asyncio.shield(asyncio.create_task(run(), context=Context()))


def _reason(error: grpc.aio.AioRpcError | DomainError) -> str:
    return error.code().name if isinstance(error, grpc.aio.AioRpcError) else error.reason


def _text(error: grpc.aio.AioRpcError | DomainError) -> str:
    return (error.details() or "") if isinstance(error, grpc.aio.AioRpcError) else error.message


def _error_reason(error: grpc.aio.AioRpcError) -> str:
    """The machine-readable reason of a service's error; empty when it gave none."""
    details = dict(error.trailing_metadata() or ()).get(STATUS_DETAILS_KEY)
    status = status_pb2.Status.FromString(details) if isinstance(details, bytes) else None
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            return str(info.reason)
    return ""
