"""Recommendations in both directions."""

from collections.abc import Collection, Sequence
from secrets import token_hex

from heliograph.candidate.v1alpha1 import recommending_pb2
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2

from services.candidate.audiences import Audience, Choice, Place
from services.candidate.catalogue_store import QUERIES
from services.candidate.handlers.parts import Calls, Context
from services.candidate.messages import digest_of
from services.runtime import paging
from services.runtime.errors import FieldError, InvalidArgument, Unimplemented

DEFAULT_COUNT = 100
LATER = ("scenario", "rotation_rate", "rotation_time")
"""Parameters that are not offered yet."""
OF_ITEMS_LATER = (*LATER, "filter", "booster")
"""The same where items are recommended."""


class RecommendingCalls(Calls):
    """The four Recommend… calls."""

    async def RecommendUsersToItem(
        self, request: recommending_pb2.RecommendUsersToItemRequest, context: Context
    ) -> recommending_pb2.RecommendUsersToItemResponse:
        choice = read_choice(request.parameters, _later_fields(request))
        binding = _binding(request)
        named, place = _read_place(request.page_token, binding)
        audience = await self.parts.audiences.users_for_item(request.item_id, choice, place)
        name = named or token_hex(12)
        token = ""
        if audience.more:
            score = float(audience.scores[-1]).hex()
            token = paging.encode([binding, name, score, audience.ids[-1]])
        return recommending_pb2.RecommendUsersToItemResponse(
            recommendation_id=name,
            users=await self._users(audience, request.parameters.returned_attributes),
            basis=_basis(audience),
            interaction_count=audience.subject_count,
            next_page_token=token,
        )

    async def RecommendUsersToUser(
        self, request: recommending_pb2.RecommendUsersToUserRequest, context: Context
    ) -> recommending_pb2.RecommendUsersToUserResponse:
        choice = read_choice(request.parameters)
        audience = await self.parts.audiences.users_like_user(
            request.user_id, choice, reciprocal=request.reciprocal
        )
        return recommending_pb2.RecommendUsersToUserResponse(
            recommendation_id=token_hex(12),
            users=await self._users(audience, request.parameters.returned_attributes),
            basis=_basis(audience),
        )

    async def RecommendItemsToUser(
        self, request: recommending_pb2.RecommendItemsToUserRequest, context: Context
    ) -> recommending_pb2.RecommendItemsToUserResponse:
        choice = read_choice(request.parameters, later=OF_ITEMS_LATER)
        answer = await self.parts.audiences.items_for_user(request.user_id, choice)
        return recommending_pb2.RecommendItemsToUserResponse(
            recommendation_id=token_hex(12),
            items=_items(answer),
            basis=_basis(answer),
            interaction_count=answer.subject_count,
        )

    async def RecommendItemsToSegment(
        self, request: recommending_pb2.RecommendItemsToSegmentRequest, context: Context
    ) -> recommending_pb2.RecommendItemsToSegmentResponse:
        choice = read_choice(request.parameters, later=OF_ITEMS_LATER)
        answer = await self.parts.audiences.items_for_segment(request.user_ids, choice)
        return recommending_pb2.RecommendItemsToSegmentResponse(
            recommendation_id=token_hex(12),
            items=_items(answer),
            basis=_basis(answer),
            user_count=answer.subject_count,
        )

    async def _users(
        self, audience: Audience, names: Collection[str]
    ) -> list[recommending_pb2.ScoredUser]:
        stored: dict[str, event_pb2.User] = {}
        if names and audience.ids:
            async with self.parts.database.read() as work:
                rows = await work.rows(QUERIES.get_user_bodies, {"user_ids": list(audience.ids)})
            stored = {row.user_id: event_pb2.User.FromString(row.body) for row in rows}
        return [
            recommending_pb2.ScoredUser(
                user_id=name,
                score=score,
                interaction_count=count,
                attributes=_attributes(stored.get(name), names),
            )
            for name, score, count in zip(
                audience.ids, audience.scores, audience.counts, strict=True
            )
        ]


def read_choice(
    parameters: recommending_pb2.RecommendationParameters,
    others: Sequence[FieldError] = (),
    *,
    later: Sequence[str] = LATER,
) -> Choice:
    """How to choose. Raises Unimplemented, by field, for what is given of `later`, which is not
    offered yet, and for the `others`."""
    fields = [*others]
    for name in later:
        given = (
            parameters.HasField("rotation_time")
            if name == "rotation_time"
            else bool(getattr(parameters, name))
        )
        if given:
            fields.append(FieldError(f"parameters.{name}", "is not offered yet"))
    if fields:
        names = ", ".join(field.path for field in fields)
        raise Unimplemented(f"not offered yet: {names}", reason="NOT_OFFERED", fields=fields)
    return Choice(
        count=parameters.count or DEFAULT_COUNT,
        min_relevance=parameters.min_relevance,
        include_interacted=parameters.include_interacted,
        filter=parameters.filter,
        booster=parameters.booster,
    )


def _later_fields(request: recommending_pb2.RecommendUsersToItemRequest) -> list[FieldError]:
    given = {
        "respect_budget": request.respect_budget,
        "diversity_attribute": bool(request.diversity_attribute),
    }
    return [FieldError(name, "is not offered yet") for name, is_given in given.items() if is_given]


def _binding(request: recommending_pb2.RecommendUsersToItemRequest) -> str:
    """Digest of the question apart from its page token and page size."""
    question = recommending_pb2.RecommendUsersToItemRequest()
    question.CopyFrom(request)
    question.ClearField("page_token")
    question.parameters.ClearField("count")
    return digest_of(question.SerializeToString(deterministic=True)).hex()[:16]


def _read_place(token: str, binding: str) -> tuple[str, Place | None]:
    position = paging.decode(token, [str, str, str, str])
    if position is None:
        return "", None
    asked, name, score, user_id = map(str, position)
    try:
        place = Place(float.fromhex(score), user_id)
    except (ValueError, OverflowError):
        place = None
    if place is None or asked != binding:
        problem = "is not a next_page_token of this question"
        raise InvalidArgument(f"page_token {problem}", fields=[FieldError("page_token", problem)])
    return name, place


def _basis(audience: Audience) -> recommending_pb2.Basis.ValueType:
    return (
        recommending_pb2.BASIS_INTERACTIONS if audience.warm else recommending_pb2.BASIS_COLD_START
    )


def _items(answer: Audience) -> list[recommending_pb2.ScoredItem]:
    return [
        recommending_pb2.ScoredItem(item_id=name, score=score, interaction_count=count)
        for name, score, count in zip(answer.ids, answer.scores, answer.counts, strict=True)
    ]


def _attributes(
    user: event_pb2.User | None, names: Collection[str]
) -> dict[str, attribute_pb2.AttributeValue]:
    if user is None:
        return {}
    return {name: user.attributes[name] for name in names if name in user.attributes}
