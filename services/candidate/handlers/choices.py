"""Parameters and page tokens of recommendations to the domain's values."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from secrets import token_hex

from heliograph.candidate.v1alpha1 import recommending_pb2

from services.candidate.messages import EPOCH, digest_of
from services.candidate.questions import (
    Audience,
    BudgetUse,
    Choice,
    Diversity,
    Page,
    Place,
    Rotation,
)
from services.candidate.scenarios import Applied
from services.runtime import paging
from services.runtime.errors import FieldError, InvalidArgument

Request = (
    recommending_pb2.RecommendUsersToItemRequest
    | recommending_pb2.RecommendUsersToUserRequest
    | recommending_pb2.RecommendItemsToUserRequest
    | recommending_pb2.RecommendItemsToSegmentRequest
)

DEFAULT_COUNT = 100
DEFAULT_ROTATION_TIME = timedelta(hours=2)
DEFAULT_DIVERSITY = 0.5
MICROSECOND = timedelta(microseconds=1)
LARGEST_SKEW = timedelta(hours=1)
"""Between the clocks of two replicas that answer pages of one question, at most."""
BUDGET_USES = {
    recommending_pb2.BUDGET_USE_UNSPECIFIED: BudgetUse.OFF,
    recommending_pb2.BUDGET_USE_OFF: BudgetUse.OFF,
    recommending_pb2.BUDGET_USE_DISCOUNT: BudgetUse.DISCOUNT,
    recommending_pb2.BUDGET_USE_EXCLUDE: BudgetUse.EXCLUDE,
}


def read_choice(applied: Applied) -> Choice:
    """How to choose."""
    parameters = applied.parameters
    rotation_time = (
        parameters.rotation_time.ToTimedelta()
        if parameters.HasField("rotation_time")
        else DEFAULT_ROTATION_TIME
    )
    strength = parameters.diversity if parameters.HasField("diversity") else DEFAULT_DIVERSITY
    name = parameters.diversity_attribute
    return Choice(
        count=parameters.count or DEFAULT_COUNT,
        min_relevance=parameters.min_relevance,
        include_interacted=parameters.include_interacted,
        filter=parameters.filter,
        booster=parameters.booster,
        rotation=Rotation(rate, rotation_time) if (rate := parameters.rotation_rate) else None,
        diversity=Diversity(name, strength) if name else None,
        budget=BUDGET_USES[parameters.respect_budget],
        scenario=parameters.scenario,
        from_scenario=applied.from_scenario,
    )


def read_user_choice(
    request: recommending_pb2.RecommendUsersToItemRequest, applied: Applied
) -> Choice:
    """How to choose users for an item."""
    return replace(read_choice(applied), count_omissions=request.count_omissions)


def read_item_choice(applied: Applied) -> Choice:
    """How to choose among items, which have no budgets. Raises InvalidArgument."""
    choice = read_choice(applied)
    if choice.budget is not BudgetUse.OFF:
        problem = "items have no budget: only users who are returned have one"
        fields = [FieldError("parameters.respect_budget", problem)]
        raise InvalidArgument(problem, fields=fields)
    return choice


def first_page(moment: datetime) -> Page:
    """The first page of a new answer."""
    return Page(token_hex(12), moment)


def read_page(request: Request, now: datetime) -> Page:
    """The page that a request asks for. Raises InvalidArgument for a token of another question."""
    kinds: Sequence[type[str] | type[int]] = [str, str, int, int, str, str]
    position = paging.decode(request.page_token, kinds)
    if position is None:
        return first_page(now)
    asked, name, moment, number, score, last = position
    try:
        page = Page(
            str(name),
            EPOCH + int(moment) * MICROSECOND,
            int(number),
            Place(float.fromhex(str(score)), str(last)),
        )
    except (ValueError, OverflowError):
        page = None
    if (
        page is None
        or asked != _binding(request)
        or not 0 < page.number < 2**31
        or not EPOCH <= page.moment <= now + LARGEST_SKEW
    ):
        problem = "is not a next_page_token of this question"
        raise InvalidArgument(f"page_token {problem}", fields=[FieldError("page_token", problem)])
    return page


def next_page_token(request: Request, page: Page, audience: Audience) -> str:
    """The token of the page behind a page that this answer is; empty when there is none."""
    if not audience.more:
        return ""
    moment = (page.moment - EPOCH) // MICROSECOND
    return paging.encode(
        [
            _binding(request),
            page.recommendation_id,
            moment,
            page.number + 1,
            float(audience.scores[-1]).hex(),
            audience.ids[-1],
        ]
    )


def _binding(request: Request) -> str:
    """Digest of the question, with the call it is asked of, apart from what may differ from page
    to page."""
    question = deepcopy(request)
    question.ClearField("page_token")
    question.parameters.count = 0  # and no parameters are empty ones
    if isinstance(question, recommending_pb2.RecommendUsersToItemRequest):
        question.ClearField("count_omissions")
    asked = question.SerializeToString(deterministic=True)
    return digest_of(question.DESCRIPTOR.full_name.encode() + asked).hex()[:16]
