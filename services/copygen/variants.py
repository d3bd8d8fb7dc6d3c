"""Variants written by people or models: stored, listed, approved, blocked."""

from hashlib import blake2b, sha256

from heliograph.copygen.v1alpha1 import copygen_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.copygen import store
from services.copygen.drawing import TEMPLATE
from services.copygen.following import ContentFollower
from services.copygen.store import STATE_PENDING, StoredVariant, queries
from services.runtime import paging
from services.runtime.clock import Clock
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import AlreadyExists, FieldError, InvalidArgument, NotFound
from services.runtime.templates import BODY_LIMIT, TITLE_LIMIT, clean


class Variants:
    """The variants of all event types."""

    def __init__(self, database: Database, clock: Clock, follower: ContentFollower) -> None:
        self._database = database
        self._clock = clock
        self._follower = follower

    async def put(self, request: copygen_pb2.PutVariantRequest) -> copygen_pb2.Variant:
        """Store a variant that waits for approval. Replaying a request id answers as at first."""
        digest = sha256(request.variant.SerializeToString(deterministic=True)).digest()
        await self._require_event_type(request.variant.event_type)
        async with self._database.unit_of_work() as work:
            if answer := await _answered(work, request.request_id, digest):
                return answer
            variant = self._new(request)
            parameters = {slot: getattr(variant, slot) for slot in StoredVariant.__slots__}
            del parameters["seq"]
            await work.execute(queries.insert_variant, parameters)
            message = to_message(variant)
            await work.execute(
                queries.insert_request,
                {
                    "request_id": request.request_id,
                    "digest": digest,
                    "answer": message.SerializeToString(),
                },
            )
            await work.commit()
        return message

    def _new(self, request: copygen_pb2.PutVariantRequest) -> StoredVariant:
        asked = request.variant
        if asked.variant_id == TEMPLATE:
            problem = "`template` is the name of the plain template"
            raise InvalidArgument(problem, fields=[FieldError("variant.variant_id", problem)])
        title = clean(asked.title, TITLE_LIMIT)
        if not title:
            problem = "is empty without control characters"
            raise InvalidArgument(f"title {problem}", fields=[FieldError("variant.title", problem)])
        made = blake2b(request.request_id.encode(), digest_size=10).hexdigest()
        return StoredVariant(
            variant_id=asked.variant_id or f"v.{made}",
            event_type=asked.event_type,
            item_id=asked.item_id,
            channel=asked.channel,
            locale=asked.locale,
            style=asked.style,
            title=title,
            body=clean(asked.body, BODY_LIMIT),
            state=STATE_PENDING,
            reward=asked.reward,
            writer="person",
            create_time=self._clock.now(),
        )

    async def _require_event_type(self, name: str) -> None:
        for attempt in range(2):
            async with self._database.read() as work:
                if await store.read_event_types(work, [name]):
                    return
            if attempt == 0:
                await self._follower.catch_up()
        raise NotFound(f"no event type is named {name!r}", reason="UNKNOWN_EVENT_TYPE")

    async def list(
        self, request: copygen_pb2.ListVariantsRequest
    ) -> tuple[list[copygen_pb2.Variant], str]:
        """One page of an event type's variants, newest first, and the token of the next."""
        position = paging.decode(request.page_token, [int])
        size = paging.page_size(request.page_size)
        before = None if position is None else int(position[0])
        async with self._database.read() as work:
            found = await store.list_variants(
                work, request.event_type, request.item_id, before, size + 1
            )
        token = paging.encode([found[size - 1].seq]) if len(found) > size else ""
        return [to_message(variant) for variant in found[:size]], token

    async def review(self, variant_id: str, state: int, note: str) -> copygen_pb2.Variant:
        """Let a variant live, or block it; both go into the audit trail. Raises NotFound."""
        async with self._database.unit_of_work() as work:
            variant = await store.review(work, variant_id, state, note, self._clock.now())
            await work.commit()
        return to_message(variant)


async def _answered(work: UnitOfWork, request_id: str, digest: bytes) -> copygen_pb2.Variant | None:
    rows = await work.rows(queries.read_request, {"request_id": request_id})
    if not rows:
        return None
    if bytes(rows[0].digest) != digest:
        raise AlreadyExists(
            f"request id {request_id!r} was used for another request", reason="REQUEST_ID_REUSED"
        )
    return copygen_pb2.Variant.FromString(rows[0].answer)


def to_message(variant: StoredVariant) -> copygen_pb2.Variant:
    """The variant as the protos know it."""
    message = copygen_pb2.Variant(
        variant_id=variant.variant_id,
        event_type=variant.event_type,
        item_id=variant.item_id,
        channel=notification_pb2.Channel.ValueType(variant.channel),
        locale=variant.locale,
        style=variant.style,
        title=variant.title,
        body=variant.body,
        state=copygen_pb2.VariantState.ValueType(variant.state),
        reward=variant.reward,
        writer=variant.writer,
    )
    message.create_time.FromDatetime(variant.create_time)
    return message
