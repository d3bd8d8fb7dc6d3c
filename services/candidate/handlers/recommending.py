"""Recommendations in both directions."""

from collections.abc import Callable

from heliograph.candidate.v1alpha1 import recommending_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.candidate.attribute_types import Owner
from services.candidate.catalogue_store import QUERIES
from services.candidate.exposure import DEFAULT_DAYS
from services.candidate.handlers.answers import (
    Attributes,
    write_basis,
    write_budget,
    write_exposure,
    write_horizon,
    write_items,
    write_omissions,
    write_users,
)
from services.candidate.handlers.catalogue import item_record
from services.candidate.handlers.choices import (
    first_page,
    next_page_token,
    read_choice,
    read_item_choice,
    read_page,
    read_user_choice,
)
from services.candidate.handlers.parts import Calls, Context
from services.candidate.messages import Refused
from services.candidate.questions import Audience, Direction, NewItem, Page
from services.candidate.rotation import Given
from services.candidate.scenarios import Applied
from services.runtime.errors import FieldError, InvalidArgument

Parameters = recommending_pb2.RecommendationParameters


class RecommendingCalls(Calls):
    """The four Recommend… calls, EstimateAudience and ReportExposure."""

    async def RecommendUsersToItem(
        self, request: recommending_pb2.RecommendUsersToItemRequest, context: Context
    ) -> recommending_pb2.RecommendUsersToItemResponse:
        now = self.parts.clock.now()
        page = read_page(request, now)
        stored = request.WhichOneof("subject") == "item_id"
        name = request.item_id if stored else request.item.item_id
        applied = await self._applied(request.parameters, Direction.USERS_TO_ITEM, name)
        audiences = self.parts.audiences
        choice = read_user_choice(request, applied)
        if stored:
            audience = await audiences.users_for_item(name, choice, page)
        else:
            item = await self._new_item(request.item)
            audience = await audiences.users_for_new_item(item, choice, page)
        await self._record(audience, applied, page)
        return recommending_pb2.RecommendUsersToItemResponse(
            recommendation_id=page.recommendation_id,
            users=write_users(audience, await self._attributes(audience, applied.parameters)),
            basis=write_basis(audience.warm),
            interaction_count=audience.subject_count,
            next_page_token=next_page_token(request, page, audience),
            omissions=write_omissions(audience.omissions),
            budget=write_budget(audience.budget),
            exposure=write_exposure(await self.parts.exposures.report(DEFAULT_DAYS, now)),
            horizon=write_horizon(audience.horizon),
        )

    async def RecommendUsersToUser(
        self, request: recommending_pb2.RecommendUsersToUserRequest, context: Context
    ) -> recommending_pb2.RecommendUsersToUserResponse:
        page = read_page(request, self.parts.clock.now())
        applied = await self._applied(request.parameters, Direction.USERS_TO_USER, request.user_id)
        given = request.HasField("reciprocal")
        reciprocal = request.reciprocal if given else applied.reciprocal
        audience = await self.parts.audiences.users_like_user(
            request.user_id, read_choice(applied), page, reciprocal=reciprocal
        )
        await self._record(audience, applied, page)
        return recommending_pb2.RecommendUsersToUserResponse(
            recommendation_id=page.recommendation_id,
            users=write_users(audience, await self._attributes(audience, applied.parameters)),
            basis=write_basis(audience.warm),
            interaction_count=audience.subject_count,
            omissions=write_omissions(audience.omissions),
            budget=write_budget(audience.budget),
            next_page_token=next_page_token(request, page, audience),
        )

    async def RecommendItemsToUser(
        self, request: recommending_pb2.RecommendItemsToUserRequest, context: Context
    ) -> recommending_pb2.RecommendItemsToUserResponse:
        page = read_page(request, self.parts.clock.now())
        applied = await self._applied(request.parameters, Direction.ITEMS_TO_USER, request.user_id)
        answer = await self.parts.audiences.items_for_user(
            request.user_id, read_item_choice(applied), page
        )
        await self._record(answer, applied, page)
        return recommending_pb2.RecommendItemsToUserResponse(
            recommendation_id=page.recommendation_id,
            items=write_items(answer, await self._attributes(answer, applied.parameters)),
            basis=write_basis(answer.warm),
            interaction_count=answer.subject_count,
            omissions=write_omissions(answer.omissions),
            next_page_token=next_page_token(request, page, answer),
            horizon=write_horizon(answer.horizon),
        )

    async def RecommendItemsToSegment(
        self, request: recommending_pb2.RecommendItemsToSegmentRequest, context: Context
    ) -> recommending_pb2.RecommendItemsToSegmentResponse:
        page = read_page(request, self.parts.clock.now())
        applied = await self._applied(request.parameters, Direction.ITEMS_TO_SEGMENT, "")
        answer = await self.parts.audiences.items_for_segment(
            request.user_ids, request.segment_filter, read_item_choice(applied), page
        )
        await self._record(answer, applied, page)
        return recommending_pb2.RecommendItemsToSegmentResponse(
            recommendation_id=page.recommendation_id,
            items=write_items(answer, await self._attributes(answer, applied.parameters)),
            basis=write_basis(answer.warm),
            user_count=answer.group_size,
            interaction_count=answer.subject_count,
            omissions=write_omissions(answer.omissions),
            next_page_token=next_page_token(request, page, answer),
            horizon=write_horizon(answer.horizon),
        )

    async def EstimateAudience(
        self, request: recommending_pb2.EstimateAudienceRequest, context: Context
    ) -> recommending_pb2.EstimateAudienceResponse:
        stored = request.WhichOneof("subject") == "item_id"
        name = request.item_id if stored else request.item.item_id
        applied = await self._applied(request.parameters, Direction.USERS_TO_ITEM, name)
        page = first_page(self.parts.clock.now())
        audiences, choice = self.parts.audiences, read_choice(applied)
        if stored:
            estimate = await audiences.estimate(name, choice, page)
        else:
            estimate = await audiences.estimate_new(
                await self._new_item(request.item), choice, page
            )
        return recommending_pb2.EstimateAudienceResponse(
            user_count=estimate.user_count,
            expected_interaction_count=estimate.expected_interactions,
            relevance_histogram=estimate.histogram,
            relevance_bounds=estimate.bounds,
            relevance_deciles=estimate.deciles,
            basis=write_basis(estimate.warm),
            interaction_count=estimate.subject_count,
            omissions=write_omissions(estimate.omissions),
            budget=write_budget(estimate.budget),
            horizon=write_horizon(estimate.horizon),
        )

    async def ReportExposure(
        self, request: recommending_pb2.ReportExposureRequest, context: Context
    ) -> recommending_pb2.ReportExposureResponse:
        days = request.days or DEFAULT_DAYS
        exposure = await self.parts.exposures.report(days, self.parts.clock.now())
        return recommending_pb2.ReportExposureResponse(exposure=write_exposure(exposure))

    async def _new_item(self, item: event_pb2.Item) -> NewItem:
        """Raises InvalidArgument for an attribute of another type than that of stored items."""
        content = event_pb2.Item()
        content.CopyFrom(item)
        content.ClearField("create_time")
        try:
            record = await self.parts.attribute_types.conformed(Owner.ITEM, item_record(content))
        except Refused as error:
            refusal, path = error.refusal, f"item.{error.refusal.path}"
            fields = [FieldError(path, refusal.message)]
            raise InvalidArgument(refusal.message, reason=refusal.reason, fields=fields) from None
        text = await self.parts.item_vectors.embed(item)
        return NewItem(item.item_id, record.body, text)

    async def _applied(self, given: Parameters, direction: Direction, subject: str) -> Applied:
        return await self.parts.scenarios.applied(given, direction, subject)

    async def _record(self, audience: Audience, applied: Applied, page: Page) -> None:
        now, scenario = self.parts.clock.now(), applied.parameters.scenario
        given = Given(page, audience.subject, scenario, now, audience.ids)
        await self.parts.recommendations.record(given)

    async def _attributes(
        self, audience: Audience, parameters: Parameters
    ) -> dict[str, Attributes]:
        """The attributes asked for of who or what is returned, by id."""
        names, ids = parameters.returned_attributes, list(audience.ids)
        if not names or not ids:
            return {}
        read: Callable[[bytes], event_pb2.User | event_pb2.Item]
        if audience.subject.direction.returns_users:
            read, query, key = event_pb2.User.FromString, QUERIES.get_user_bodies, "user_id"
        else:
            read, query, key = event_pb2.Item.FromString, QUERIES.get_item_bodies, "item_id"
        async with self.parts.database.read() as work:
            rows = await work.rows(query, {f"{key}s": ids})
        stored = {getattr(row, key): read(row.body).attributes for row in rows}
        return {
            known: {name: values[name] for name in names if name in values}
            for known, values in stored.items()
        }
