"""Asking the ranker about users' pools, and what policy is told of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from heliograph.policy.v1alpha1 import decide_pb2, recipients_pb2
from heliograph.ranker.v1alpha1 import ranker_pb2
from heliograph.type.v1alpha1 import event_pb2
from numpy.typing import NDArray

from services.pacer.convert import to_timestamp
from services.pacer.slot_times import SlotKey
from services.runtime.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Work:
    """A leased slot with the user's pool and context."""

    key: SlotKey
    events: Sequence[event_pb2.Event]
    context: recipients_pb2.UserContext

    @property
    def size(self) -> tuple[int, int]:
        """Events and bytes that it adds to a call."""
        return len(self.events), sum(event.ByteSize() for event in self.events)


def rank_request(works: Sequence[Work]) -> ranker_pb2.RankRequest:
    """Each user once, and the events of all of them in order."""
    return ranker_pb2.RankRequest(
        users=[_user(work.context) for work in works],
        events=[_event(event) for work in works for event in work.events],
        user_row=[row for row, work in enumerate(works) for _ in work.events],
    )


def decide_request(
    works: Sequence[Work],
    answer: ranker_pb2.RankResponse,
    types: dict[str, event_pb2.EventType],
) -> decide_pb2.DecideRequest:
    """One slot per user with the scores of its events; a slot whose events could not be scored at
    all is left out. Raises Unavailable (`BAD_ANSWER`) when the ranker's table has another shape
    than was asked for."""
    scores = score_table(answer, sum(len(work.events) for work in works), len(works))
    unscored = {rejection.index for rejection in answer.rejections}
    slots = []
    first = 0
    for row, work in enumerate(works):
        rows = [first + n for n in range(len(work.events)) if first + n not in unscored]
        if rows:
            slot = _slot(work, [work.events[at - first] for at in rows], scores[rows])
            slot.rank_id, slot.model_version = answer.rank_id, answer.model_versions[row]
            slots.append(slot)
        first += len(work.events)
    used = {event.event_type for work in works for event in work.events}
    return decide_pb2.DecideRequest(
        slots=slots,
        event_types=[types[name] for name in sorted(used) if name in types],
        heads=answer.heads,
        trained_heads=answer.trained_heads,
    )


def score_table(answer: ranker_pb2.RankResponse, events: int, users: int) -> NDArray[numpy.float32]:
    """Probabilities, [events, heads]. Raises Unavailable when the shape doesn't fit."""
    scores = numpy.asarray(answer.scores, dtype=numpy.float32)
    heads = len(answer.heads)
    if not heads or scores.size != events * heads or len(answer.model_versions) != users:
        raise Unavailable("the ranker answered a table of another shape", reason="BAD_ANSWER")
    return scores.reshape(events, heads)


def _slot(
    work: Work, events: Sequence[event_pb2.Event], scores: NDArray[numpy.float32]
) -> decide_pb2.Slot:
    return decide_pb2.Slot(
        user_id=work.key.user_id,
        slot_id=work.key.slot_id,
        slot_time=to_timestamp(work.key.time),
        events=events,
        scores=scores.ravel().tolist(),
    )


def _user(context: recipients_pb2.UserContext) -> ranker_pb2.RankUser:
    return ranker_pb2.RankUser(
        user_id=context.user_id,
        segment=context.segment,
        time_zone=context.time_zone,
        locale=context.locale,
        model_version=context.model_version,
        hour_profile=context.hour_profile,
    )


def _event(event: event_pb2.Event) -> ranker_pb2.RankEvent:
    return ranker_pb2.RankEvent(
        event_id=event.event_id,
        event_type=event.event_type,
        item_ids=event.item_ids,
        source=event.source,
        create_time=event.create_time if event.HasField("create_time") else None,
        source_score=event.source_score,
    )
