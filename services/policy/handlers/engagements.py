"""ReportEngagement, ReportSessions."""

from datetime import timedelta
from typing import Any

import grpc
from heliograph.policy.v1alpha1 import reports_pb2
from heliograph.type.v1alpha1 import status_pb2

from services.policy.engagements import Engagement, Kind, Refusal, Session
from services.policy.handlers.items import in_order, read_items, refused
from services.policy.reports import Reports
from services.policy.timestamps import moment
from services.runtime.errors import FieldError, InvalidArgument

Context = grpc.aio.ServicerContext[Any, Any]

_REFUSALS = {
    Refusal.UNKNOWN_DECISION: "no decision with this id, or one that is not kept any more",
    Refusal.UNKNOWN_USER: "no recipient with this id",
    Refusal.ERASED_USER: "the user was erased",
    Refusal.WRONG_USER: "the decision is another user's",
    Refusal.WRONG_CHANNEL: "only e-mails can be unsubscribed from",
    Refusal.NOT_SENT: "nothing was sent by this decision",
    Refusal.TOO_EARLY: "it is said to have happened before the decision",
    Refusal.TOO_OLD: "it is too long ago to be kept",
    Refusal.IN_FUTURE: "it is said to happen later than now",
}


class EngagementHandlers:
    """See the protos for what each call means."""

    reports: Reports

    async def ReportEngagement(
        self, request: reports_pb2.ReportEngagementRequest, context: Context
    ) -> reports_pb2.ReportEngagementResponse:
        good, rejections = read_items(request.engagements, _engagement)
        refusals = await self.reports.engagements(list(good.values()))
        rejections += _rejections(good, refusals)
        return reports_pb2.ReportEngagementResponse(
            accepted_count=len(request.engagements) - len(rejections),
            rejections=in_order(rejections),
        )

    async def ReportSessions(
        self, request: reports_pb2.ReportSessionsRequest, context: Context
    ) -> reports_pb2.ReportSessionsResponse:
        good, rejections = read_items(request.sessions, _session)
        refusals = await self.reports.sessions(list(good.values()))
        rejections += _rejections(good, refusals)
        return reports_pb2.ReportSessionsResponse(
            accepted_count=len(request.sessions) - len(rejections),
            rejections=in_order(rejections),
        )


def _rejections(
    good: dict[int, Engagement] | dict[int, Session], refusals: list[Refusal | None]
) -> list[status_pb2.Rejection]:
    return [
        refused(index, refusal, _REFUSALS[refusal])
        for index, refusal in zip(good, refusals, strict=True)
        if refusal is not None
    ]


def _engagement(message: reports_pb2.Engagement) -> Engagement:
    return Engagement(
        engagement_id=message.engagement_id,
        decision_id=message.decision_id,
        user_id=message.user_id,
        kind=Kind(message.kind),
        engage_time=moment(message.engage_time, "engage_time"),
    )


def _session(message: reports_pb2.Session) -> Session:
    return Session(
        session_id=message.session_id,
        user_id=message.user_id,
        start_time=moment(message.start_time, "start_time"),
        duration=_duration(message) if message.HasField("duration") else None,
        app_deleted=message.app_deleted,
    )


def _duration(message: reports_pb2.Session) -> timedelta:
    try:
        duration = message.duration.ToTimedelta()
    except (ValueError, OverflowError):
        duration = timedelta(-1)
    if duration < timedelta(0):
        problem = "must be a duration of 0 or more"
        raise InvalidArgument(f"duration: {problem}", fields=[FieldError("duration", problem)])
    return duration
