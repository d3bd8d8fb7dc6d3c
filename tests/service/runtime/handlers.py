"""Handlers with behaviour chosen by the test, on the real protos."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from heliograph.policy.v1alpha1 import control_pb2, policy_pb2_grpc, recipients_pb2

from services.runtime import Bind, Host

Context = grpc.aio.ServicerContext[Any, Any]
OnSnooze = Callable[[recipients_pb2.SnoozeRequest], Awaitable[recipients_pb2.SnoozeResponse]]


async def _nothing(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
    return recipients_pb2.SnoozeResponse()


class PolicyHandler(policy_pb2_grpc.PolicyServiceServicer):
    """Snooze does what the test says; the streams count what they are sent."""

    def __init__(self, snooze: OnSnooze = _nothing) -> None:
        self._snooze = snooze
        self.cancelled = asyncio.Event()

    async def Snooze(
        self, request: recipients_pb2.SnoozeRequest, context: Context
    ) -> recipients_pb2.SnoozeResponse:
        return await self._snooze(request)

    async def UpsertRecipients(
        self,
        request_iterator: AsyncIterator[recipients_pb2.UpsertRecipientsRequest],
        context: Context,
    ) -> recipients_pb2.UpsertRecipientsResponse:
        accepted = 0
        async for request in request_iterator:
            accepted += len(request.recipients)
        return recipients_pb2.UpsertRecipientsResponse(accepted_count=accepted)

    async def WatchVolume(
        self, request: control_pb2.WatchVolumeRequest, context: Context
    ) -> AsyncIterator[control_pb2.WatchVolumeResponse]:
        try:
            yield control_pb2.WatchVolumeResponse()
            if not request.once:
                await asyncio.Event().wait()
        finally:
            self.cancelled.set()


def bind_policy(handler: PolicyHandler, then: Callable[[Host], None] = lambda host: None) -> Bind:
    """A bind function that serves `handler`, then does what the test adds."""

    async def bind(host: Host) -> None:
        host.add(policy_pb2_grpc.add_PolicyServiceServicer_to_server, handler)
        then(host)

    return bind


def snooze(user_id: str) -> recipients_pb2.SnoozeRequest:
    """A valid request, for a user id that is."""
    request = recipients_pb2.SnoozeRequest(user_id=user_id)
    request.until_time.FromSeconds(1)
    return request
