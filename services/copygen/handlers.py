"""copygen's RPCs: an engine call each."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from heliograph.copygen.v1alpha1 import copygen_pb2, copygen_pb2_grpc

from services.copygen import store
from services.copygen.picking import Picker
from services.copygen.store import STATE_BLOCKED, STATE_LIVE, Choice, queries
from services.copygen.variants import Variants
from services.runtime.database import Database
from services.runtime.errors import FailedPrecondition

Context = grpc.aio.ServicerContext[Any, Any]


class CopygenHandler(copygen_pb2_grpc.CopygenServiceServicer):
    """See the protos for what each call means."""

    def __init__(self, database: Database, picker: Picker, variants: Variants) -> None:
        self._database = database
        self._picker = picker
        self._variants = variants

    async def PickVariants(
        self, request: copygen_pb2.PickVariantsRequest, context: Context
    ) -> copygen_pb2.PickVariantsResponse:
        choices, rejections = await self._picker.pick(request.deliveries, dry_run=request.dry_run)
        return copygen_pb2.PickVariantsResponse(
            copies=[_copy(choice) for choice in choices], rejections=rejections
        )

    async def Generate(
        self, request: copygen_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[copygen_pb2.GenerateResponse]:
        raise FailedPrecondition(
            "no language model is configured: templates and variants by PutVariant serve",
            reason="NO_LANGUAGE_MODEL",
        )
        yield  # makes this a stream

    async def ScoreTexts(
        self, request: copygen_pb2.ScoreTextsRequest, context: Context
    ) -> copygen_pb2.ScoreTextsResponse:
        raise FailedPrecondition("no reward model is loaded", reason="NO_REWARD_MODEL")

    async def PutVariant(
        self, request: copygen_pb2.PutVariantRequest, context: Context
    ) -> copygen_pb2.PutVariantResponse:
        return copygen_pb2.PutVariantResponse(variant=await self._variants.put(request))

    async def ListVariants(
        self, request: copygen_pb2.ListVariantsRequest, context: Context
    ) -> copygen_pb2.ListVariantsResponse:
        variants, token = await self._variants.list(request)
        return copygen_pb2.ListVariantsResponse(variants=variants, next_page_token=token)

    async def ApproveVariant(
        self, request: copygen_pb2.ApproveVariantRequest, context: Context
    ) -> copygen_pb2.ApproveVariantResponse:
        variant = await self._variants.review(request.variant_id, STATE_LIVE, request.note)
        return copygen_pb2.ApproveVariantResponse(variant=variant)

    async def BlockVariant(
        self, request: copygen_pb2.BlockVariantRequest, context: Context
    ) -> copygen_pb2.BlockVariantResponse:
        variant = await self._variants.review(request.variant_id, STATE_BLOCKED, request.note)
        return copygen_pb2.BlockVariantResponse(variant=variant)

    async def ListChoices(
        self, request: copygen_pb2.ListChoicesRequest, context: Context
    ) -> copygen_pb2.ListChoicesResponse:
        async with self._database.read() as work:
            found = await store.read_choices(work, request.delivery_ids)
        chosen = [found[key] for key in dict.fromkeys(request.delivery_ids) if key in found]
        return copygen_pb2.ListChoicesResponse(copies=[_copy(choice) for choice in chosen])

    async def EraseUser(
        self, request: copygen_pb2.EraseUserRequest, context: Context
    ) -> copygen_pb2.EraseUserResponse:
        async with self._database.unit_of_work() as work:
            parameters = {"user_id": request.user_id}
            choices = await work.execute(queries.erase_choices, parameters)
            outcomes = await work.execute(queries.erase_outcomes, parameters)
            await work.commit()
        return copygen_pb2.EraseUserResponse(removed_count=choices.rowcount + outcomes.rowcount)


def _copy(choice: Choice) -> copygen_pb2.Copy:
    return copygen_pb2.Copy(
        delivery_id=choice.delivery_id,
        variant_id=choice.variant_id,
        title=choice.title,
        body=choice.body,
        style=choice.style,
        propensity=choice.propensity,
    )
