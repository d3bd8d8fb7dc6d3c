"""Questions, answers and counts between the front and the shards, to protos and back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.candidate.v1alpha1 import recommending_pb2, sharding_pb2
from heliograph.type.v1alpha1 import event_pb2

from services.candidate.handlers import choices
from services.candidate.handlers.answers import write_budget, write_horizon, write_omissions
from services.candidate.index.prediction import ItemSum
from services.candidate.messages import write_time
from services.candidate.questions import (
    Audience,
    BudgetSeen,
    BudgetUse,
    Choice,
    Found,
    NewItem,
    Omission,
    Page,
    Place,
    Subject,
)
from services.candidate.scenarios import Applied
from services.runtime.errors import FieldError, InvalidArgument

_WRITTEN_USES: Mapping[BudgetUse, recommending_pb2.BudgetUse.ValueType] = {
    use: number for number, use in choices.BUDGET_USES.items()
}


def write_choice(choice: Choice) -> sharding_pb2.ShardChoice:
    """See the proto."""
    written = recommending_pb2.RecommendationParameters(
        count=choice.count,
        filter=choice.filter,
        booster=choice.booster,
        min_relevance=choice.min_relevance,
        scenario=choice.scenario,
        include_interacted=choice.include_interacted,
        respect_budget=_WRITTEN_USES[choice.budget],
    )
    if choice.rotation is not None:
        written.rotation_rate = choice.rotation.rate
        written.rotation_time.FromTimedelta(choice.rotation.time)
    if choice.diversity is not None:
        written.diversity_attribute = choice.diversity.attribute
        written.diversity = choice.diversity.strength
    return sharding_pb2.ShardChoice(
        parameters=written,
        from_scenario=sorted(choice.from_scenario),
        count_omissions=choice.count_omissions,
    )


def read_choice(message: sharding_pb2.ShardChoice) -> Choice:
    """The same backwards."""
    applied = Applied(message.parameters, frozenset(message.from_scenario))
    return replace(choices.read_choice(applied), count_omissions=message.count_omissions)


def write_page(page: Page) -> sharding_pb2.ShardPage:
    """See the proto."""
    after = None
    if page.after is not None:
        after = sharding_pb2.ShardPlace(score=page.after.score, id=page.after.id)
    return sharding_pb2.ShardPage(
        recommendation_id=page.recommendation_id,
        moment=write_time(page.moment),
        number=page.number,
        after=after,
    )


def read_page(message: sharding_pb2.ShardPage) -> Page:
    """The same backwards."""
    after = None
    if message.HasField("after"):
        after = Place(message.after.score, message.after.id)
    moment = read_time(message.moment)
    return Page(message.recommendation_id, moment, message.number, after)


def write_answer(found: Found) -> sharding_pb2.ShardAnswer:
    """See the proto."""
    audience = found.audience
    return sharding_pb2.ShardAnswer(
        ids=audience.ids,
        scores=audience.scores,
        relevance=audience.relevance,
        interaction_counts=audience.counts,
        groups=found.groups,
        more=audience.more,
        warm=audience.warm,
        subject_count=audience.subject_count,
        omissions=write_omissions(audience.omissions),
        budget=write_budget(audience.budget),
        horizon=write_horizon(audience.horizon),
    )


def read_answer(message: sharding_pb2.ShardAnswer, subject: Subject) -> Found:
    """The same backwards."""
    budget = None
    if message.HasField("budget"):
        known = message.budget.state == recommending_pb2.BUDGET_STATE_KNOWN
        budget = BudgetSeen(message.budget.age.ToTimedelta() if known else None)
    audience = Audience(
        subject=subject,
        ids=list(message.ids),
        scores=list(message.scores),
        relevance=list(message.relevance),
        counts=list(message.interaction_counts),
        warm=message.warm,
        subject_count=message.subject_count,
        more=message.more,
        omissions={Omission(entry.omission): entry.count for entry in message.omissions},
        budget=budget,
        horizon=message.horizon.ToTimedelta() if message.HasField("horizon") else None,
    )
    return Found(audience, list(message.groups))


def write_new_item(item: NewItem) -> sharding_pb2.UnstoredItem:
    """See the proto."""
    text = () if item.text is None else item.text.tolist()
    return sharding_pb2.UnstoredItem(item=event_pb2.Item.FromString(item.body), text=text)


def read_new_item(message: sharding_pb2.UnstoredItem) -> NewItem:
    """The same backwards."""
    text = np.array(message.text, np.float32) if message.text else None
    return NewItem(message.item.item_id, message.item.SerializeToString(), text)


def read_sum(message: sharding_pb2.ItemSum) -> ItemSum:
    """What users add to an item as a query."""
    return ItemSum(np.asarray(message.vector, np.float64), message.member_count)


def read_numbers(content: bytes, kind: str) -> npt.NDArray[Any]:
    """An array of numbers of four bytes. Raises InvalidArgument for bytes that aren't."""
    if len(content) % 4:
        raise InvalidArgument("an array of numbers is cut short")
    return np.frombuffer(content, kind)


def read_time(message: Timestamp) -> datetime:
    """Aware UTC time. Raises InvalidArgument when it lies outside the years 1 to 9999."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        problem = "is not a time between the years 1 and 9999"
        raise InvalidArgument(problem, fields=[FieldError("page.moment", problem)]) from None
