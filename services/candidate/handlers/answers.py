"""Answers of the user index to protos."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from heliograph.candidate.v1alpha1 import recommending_pb2
from heliograph.type.v1alpha1 import attribute_pb2

from services.candidate.exposure import Exposure
from services.candidate.messages import write_time
from services.candidate.questions import Audience, BudgetSeen, Omission

Attributes = Mapping[str, attribute_pb2.AttributeValue]


def write_users(
    audience: Audience, attributes: Mapping[str, Attributes]
) -> list[recommending_pb2.ScoredUser]:
    """The users of an answer, with attributes by id."""
    return [
        recommending_pb2.ScoredUser(
            user_id=name,
            score=score,
            interaction_count=count,
            attributes=attributes.get(name),
            relevance=relevance,
        )
        for name, score, relevance, count in _entries(audience)
    ]


def write_items(
    audience: Audience, attributes: Mapping[str, Attributes]
) -> list[recommending_pb2.ScoredItem]:
    """The items of an answer, with attributes by id."""
    return [
        recommending_pb2.ScoredItem(
            item_id=name,
            score=score,
            interaction_count=count,
            attributes=attributes.get(name),
            relevance=relevance,
        )
        for name, score, relevance, count in _entries(audience)
    ]


def write_basis(warm: bool) -> recommending_pb2.Basis.ValueType:
    """What an answer rests on."""
    return recommending_pb2.BASIS_INTERACTIONS if warm else recommending_pb2.BASIS_COLD_START


def write_omissions(omissions: Mapping[Omission, int]) -> list[recommending_pb2.OmissionCount]:
    """Who is missing, by reason."""
    return [
        recommending_pb2.OmissionCount(
            omission=recommending_pb2.Omission.ValueType(reason), count=omissions[reason]
        )
        for reason in sorted(omissions)
    ]


def write_budget(seen: BudgetSeen | None) -> recommending_pb2.BudgetReport | None:
    """The budgets that an answer used."""
    if seen is None:
        return None
    if seen.age is None:
        return recommending_pb2.BudgetReport(state=recommending_pb2.BUDGET_STATE_UNKNOWN)
    age = Duration()
    age.FromTimedelta(max(seen.age, timedelta(0)))
    return recommending_pb2.BudgetReport(state=recommending_pb2.BUDGET_STATE_KNOWN, age=age)


def write_horizon(horizon: timedelta | None) -> Duration | None:
    """How far ahead relevance looks."""
    if horizon is None:
        return None
    written = Duration()
    written.FromTimedelta(horizon)
    return written


def write_exposure(exposure: Exposure) -> recommending_pb2.ExposureReport:
    """The exposure report."""
    return recommending_pb2.ExposureReport(
        days=exposure.days,
        user_count=exposure.user_count,
        reached_user_count=exposure.reached_users,
        reached_share=exposure.reached_share,
        send_count=exposure.sends,
        gini=exposure.gini,
        report_time=write_time(exposure.report_time),
    )


def _entries(audience: Audience) -> Iterator[tuple[str, float, float, int]]:
    return zip(audience.ids, audience.scores, audience.relevance, audience.counts, strict=True)
