"""Recommendations read back by their ids."""

from heliograph.candidate.v1alpha1 import readback_pb2, scenarios_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.candidate import readback
from services.candidate.handlers.parts import Calls, Context
from services.candidate.messages import write_time
from services.candidate.questions import Direction
from services.candidate.readback import Kept, Named, Position
from services.runtime import paging
from services.runtime.errors import FieldError, InvalidArgument

SUBJECTS = {
    Direction.USERS_TO_ITEM: "item_id",
    Direction.USERS_TO_USER: "user_id",
    Direction.ITEMS_TO_USER: "user_id",
    Direction.ITEMS_TO_SEGMENT: "group",
}


class ReadbackCalls(Calls):
    """GetRecommendation."""

    async def GetRecommendation(
        self, request: readback_pb2.GetRecommendationRequest, context: Context
    ) -> readback_pb2.GetRecommendationResponse:
        name, size = request.recommendation_id, paging.page_size(request.page_size)
        kept = await readback.read(self.parts.database, name, _position(request), size)
        following = kept.next
        return readback_pb2.GetRecommendationResponse(
            recommendation=_recommendation(name, kept),
            returned_ids=kept.ids,
            next_page_token=(
                paging.encode([name, following.page, following.place]) if following else ""
            ),
            interactions=map(_interaction, kept.naming.newest),
            interaction_count=kept.naming.count,
            ranked_interaction_count=kept.naming.ranked,
        )


def _position(request: readback_pb2.GetRecommendationRequest) -> Position | None:
    """Raises InvalidArgument for the token of another recommendation."""
    told = paging.decode(request.page_token, [str, int, int])
    if told is None:
        return None
    name, page, place = told
    if name != request.recommendation_id or not 0 <= int(page) < 2**31:
        problem = "is not a next_page_token of this recommendation"
        raise InvalidArgument(f"page_token {problem}", fields=[FieldError("page_token", problem)])
    return Position(int(page), int(place))


def _recommendation(name: str, kept: Kept) -> readback_pb2.Recommendation:
    direction = kept.subject.direction
    made = readback_pb2.Recommendation(
        recommendation_id=name,
        direction=scenarios_pb2.ScenarioDirection.ValueType(direction),
        scenario=kept.scenario,
        answer_time=write_time(kept.answer_time),
        page_count=kept.page_count,
        returned_count=kept.returned_count,
    )
    setattr(made, SUBJECTS[direction], kept.subject.name)
    return made


def _interaction(named: Named) -> readback_pb2.RecommendedInteraction:
    made = named.interaction
    return readback_pb2.RecommendedInteraction(
        interaction=event_pb2.Interaction(
            user_id=made.user_id,
            item_id=made.item_id,
            weight=made.weight,
            interact_time=write_time(made.interact_time),
            kind=made.kind,
            recommendation_id=made.recommendation_id,
        ),
        rank=named.rank,
    )
