"""EraseUser."""

from typing import Any

import grpc
from heliograph.policy.v1alpha1 import recipients_pb2

from services.policy.erasure import Erasure

Context = grpc.aio.ServicerContext[Any, Any]


class EraseHandlers:
    """See the protos for what each call means."""

    erasure: Erasure

    async def EraseUser(
        self, request: recipients_pb2.EraseUserRequest, context: Context
    ) -> recipients_pb2.EraseUserResponse:
        removed = await self.erasure.erase(request.user_id)
        return recipients_pb2.EraseUserResponse(removed_count=removed)
