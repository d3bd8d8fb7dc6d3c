"""ExplainDecision, ListDecisions."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
from heliograph.policy.v1alpha1 import decide_pb2, explanation_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.policy.decision_messages import explanation_messages, heads_of
from services.policy.deliveries import State, day_of
from services.policy.explanation import Explanation
from services.policy.ids import day_of_slot
from services.policy.timestamps import timestamp
from services.runtime import paging
from services.runtime.database import Database, UnitOfWork, load_queries
from services.runtime.errors import FieldError, NotFound

Context = grpc.aio.ServicerContext[Any, Any]
Kind = notification_pb2.EngagementKind.ValueType

_queries = load_queries(Path(__file__).parent.with_name("explain.sql"))
_GIVEN_UP = (State.DROPPED, State.DEAD)


class ExplainHandlers:
    """See the protos for what each call means."""

    database: Database

    async def ExplainDecision(
        self, request: explanation_pb2.ExplainDecisionRequest, context: Context
    ) -> explanation_pb2.ExplainDecisionResponse:
        asked = {"day": day_of(request.decision_id), "decision_id": request.decision_id}
        async with self.database.read() as work:
            found = await work.rows(_queries.read_decision, asked) if asked["day"] else []
            if not found:
                raise NotFound(
                    f"no decision {request.decision_id!r}",
                    reason="UNKNOWN_DECISION",
                    fields=[FieldError("decision_id", "is not known")],
                )
            decision = decide_pb2.Decision.FromString(bytes(found[0].answer))
            deliveries = await _deliveries(work, [decision])
            engagements = await work.rows(_queries.read_engagements, asked)
        explanation = Explanation.unpack(bytes(found[0].explanation))
        options, steps = explanation_messages(explanation)
        answer = explanation_pb2.ExplainDecisionResponse(
            decision=decision, options=options, steps=steps, heads=heads_of(explanation)
        )
        for delivery in deliveries:
            answer.delivery_state, answer.delivery_detail = delivery.state, delivery.detail
        for row in engagements:
            answer.engagements.add(
                engagement_id=row.engagement_id,
                decision_id=request.decision_id,
                user_id=row.user_id,
                kind=Kind(row.kind),
                engage_time=timestamp(row.engage_time),
            )
        return answer

    async def ListDecisions(
        self, request: explanation_pb2.ListDecisionsRequest, context: Context
    ) -> explanation_pb2.ListDecisionsResponse:
        size = paging.page_size(request.page_size)
        after_time, after_slot = _position(request.page_token)
        asked = {
            "user_id": request.user_id,
            "after_day": day_of_slot(after_time) if after_time else None,
            "after_time": after_time,
            "after_slot": after_slot,
            "limit": size + 1,
        }
        async with self.database.read() as work:
            rows = await work.rows(_queries.list_decisions, asked)
            decisions = [decide_pb2.Decision.FromString(bytes(row.answer)) for row in rows[:size]]
            deliveries = await _deliveries(work, decisions)
        token = ""
        if len(rows) > size:
            last = rows[size - 1]
            token = paging.encode([last.slot_time.isoformat(), last.slot_id])
        return explanation_pb2.ListDecisionsResponse(
            decisions=decisions, next_page_token=token, deliveries=deliveries
        )


async def _deliveries(
    work: UnitOfWork, decisions: Iterable[decide_pb2.Decision]
) -> list[explanation_pb2.DeliveryOutcome]:
    ids = [decision.delivery_id for decision in decisions if decision.send]
    if not ids:
        return []
    days = {day for name in ids if (day := day_of(name)) is not None}
    asked = {"days": sorted(days), "delivery_ids": ids}
    return [
        explanation_pb2.DeliveryOutcome(
            delivery_id=row.delivery_id,
            state=row.state,
            detail=row.error if row.state in _GIVEN_UP else "",
        )
        for row in await work.rows(_queries.read_deliveries, asked)
    ]


def _position(token: str) -> tuple[datetime | None, str]:
    position = paging.decode(token, [str, str])
    if position is None:
        return None, ""
    return paging.read_moment(position[0]), str(position[1])
