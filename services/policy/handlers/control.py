"""SetTarget, GetThresholds, WatchVolume, PutObjective, ListObjectives."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, date, datetime
from typing import Any

import grpc
from heliograph.policy.v1alpha1 import control_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.policy import control_store, request_log
from services.policy.control import Controller, Outlook
from services.policy.control_store import ControlledCell, Volume
from services.policy.experiments import DEFAULT_GROUP
from services.policy.judging import Cell
from services.policy.pacing import Curve
from services.policy.request_log import Request
from services.policy.segments import Segment
from services.policy.settings import PolicySettings
from services.policy.timestamps import timestamp
from services.policy.utility import ANY_SEGMENT, HeadWeight
from services.runtime import paging
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import FieldError, InvalidArgument, Unimplemented

Context = grpc.aio.ServicerContext[Any, Any]
Channel = notification_pb2.Channel.ValueType
Head = notification_pb2.Head.ValueType


class Ticks:
    """Lets open streams wait for the controller's next tick."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def announce(self) -> None:
        """A tick is over."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Until the next tick is over."""
        await self._next.wait()


class ControlHandlers:
    """See the protos for what each call means."""

    database: Database
    clock: Clock
    settings: PolicySettings
    controller: Controller
    outlook: Outlook
    ticks: Ticks

    async def tick(self, now: datetime) -> None:
        """Step the controller, then tell those who watch."""
        try:
            await self.controller.tick(now)
        finally:
            self.ticks.announce()

    async def SetTarget(
        self, request: control_pb2.SetTargetRequest, context: Context
    ) -> control_pb2.SetTargetResponse:
        cell, per_day = _target(request.target)
        content = request.target.SerializeToString(deterministic=True)
        asked = Request("SetTarget", request.request_id, content)
        async with self.database.unit_of_work() as work:
            known = await request_log.first_answer(work, asked)
            if known is not None:
                return control_pb2.SetTargetResponse.FromString(known)
            now = self.clock.now()
            await self.controller.set_target(work, cell, per_day, now)
            target = control_pb2.Target(cell=_cell_message(cell), per_day=per_day)
            answer = control_pb2.SetTargetResponse(target=target)
            await request_log.remember(work, asked, answer.SerializeToString(), now)
            await work.commit()
        return answer

    async def GetThresholds(
        self, request: control_pb2.GetThresholdsRequest, context: Context
    ) -> control_pb2.GetThresholdsResponse:
        async with self.database.read() as work:
            cells = await control_store.read_cells(work)
        return control_pb2.GetThresholdsResponse(
            thresholds=[
                _threshold_message(one)
                for one in cells
                if request.experiment_group in ("", one.cell.group)
            ]
        )

    async def WatchVolume(
        self, request: control_pb2.WatchVolumeRequest, context: Context
    ) -> AsyncIterator[control_pb2.WatchVolumeResponse]:
        day = _day(request.day)
        while True:
            yield await self._volume(day, request.experiment_group)
            if request.once:
                return
            await self.ticks.wait()

    async def PutObjective(
        self, request: control_pb2.PutObjectiveRequest, context: Context
    ) -> control_pb2.PutObjectiveResponse:
        objective = request.objective
        weights = _weights(objective)
        content = objective.SerializeToString(deterministic=True)
        asked = Request("PutObjective", request.request_id, content)
        async with self.database.unit_of_work() as work:
            known = await request_log.first_answer(work, asked)
            if known is not None:
                return control_pb2.PutObjectiveResponse.FromString(known)
            now = self.clock.now()
            await control_store.put_objective(work, objective.segment, weights, now)
            answer = control_pb2.PutObjectiveResponse(
                objective=_objective_message(objective.segment, weights)
            )
            await request_log.remember(work, asked, answer.SerializeToString(), now)
            await work.commit()
        return answer

    async def ListObjectives(
        self, request: control_pb2.ListObjectivesRequest, context: Context
    ) -> control_pb2.ListObjectivesResponse:
        size = paging.page_size(request.page_size)
        position = paging.decode(request.page_token, [str])
        after = "" if position is None else str(position[0])
        async with self.database.read() as work:
            objectives = await control_store.read_objectives(work)
        names = [name for name in sorted(objectives.by_segment) if name > after]
        return control_pb2.ListObjectivesResponse(
            objectives=[_objective_message(name, objectives.of(name)) for name in names[:size]],
            next_page_token=paging.encode([names[size - 1]]) if len(names) > size else "",
        )

    async def _volume(self, asked: date | None, group: str) -> control_pb2.WatchVolumeResponse:
        now = self.clock.now()
        today = now.astimezone(UTC).date()
        day = asked or today
        async with self.database.read() as work:
            cells = {one.cell: one for one in await control_store.read_cells(work)}
            volume = await control_store.read_volume(work, day)
            prospect = await self.outlook.read(work, now)
        moment = now if day == today else None
        return control_pb2.WatchVolumeResponse(
            report_time=timestamp(now),
            cells=[
                _volume_message(
                    cell,
                    volume.get(cell, Volume()),
                    cells.get(cell),
                    _passed(prospect.curve(cell), moment, day < today),
                    self.settings.default_threshold,
                )
                for cell in sorted({*cells, *volume})
                if group in ("", cell.group)
            ],
        )


def _passed(curve: Curve, now: datetime | None, over: bool) -> float:
    if now is None:
        return 1.0 if over else 0.0
    return curve.at(now)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise _wrong("day", "is no day of the calendar") from error


def _target(message: control_pb2.Target) -> tuple[Cell, float]:
    if message.WhichOneof("volume") == "follow_group":
        raise Unimplemented(
            "a target that follows another group is not offered yet; give per_day",
            reason="FOLLOW_GROUP",
        )
    segment = message.cell.segment
    if segment not in set(Segment):
        known = ", ".join(Segment)
        raise _wrong("target.cell.segment", f"no segment {segment!r}; known: {known}")
    group = message.cell.experiment_group or DEFAULT_GROUP
    return Cell(group, segment, message.cell.channel), message.per_day


def _weights(objective: control_pb2.Objective) -> list[HeadWeight]:
    if objective.segment != ANY_SEGMENT and objective.segment not in set(Segment):
        known = ", ".join((ANY_SEGMENT, *Segment))
        raise _wrong("objective.segment", f"no segment {objective.segment!r}; known: {known}")
    weights = [HeadWeight(one.head, one.channel, one.weight) for one in objective.weights]
    seen: set[tuple[int, int]] = set()
    for index, weight in enumerate(weights):
        path = f"objective.weights[{index}]"
        if not math.isfinite(weight.weight):
            raise _wrong(f"{path}.weight", "must be finite")
        if (weight.head, weight.channel) in seen:
            raise _wrong(path, "head and channel are named before")
        seen.add((weight.head, weight.channel))
    if not any(weight.weight for weight in weights):
        raise _wrong("objective.weights", "at least one weight isn't 0")
    return weights


def _cell_message(cell: Cell) -> control_pb2.Cell:
    return control_pb2.Cell(
        experiment_group=cell.group, segment=cell.segment, channel=Channel(cell.channel)
    )


def _threshold_message(one: ControlledCell) -> control_pb2.Threshold:
    state = one.state
    return control_pb2.Threshold(
        cell=_cell_message(one.cell),
        threshold=one.judgement.threshold if one.judgement else 0.0,
        quantile=state.quantile,
        target_per_day=state.target,
        error=state.error,
        integral=state.integral,
        step_time=timestamp(state.step_time) if state.step_time else None,
        step_count=state.step_count,
    )


def _volume_message(
    cell: Cell,
    volume: Volume,
    controlled: ControlledCell | None,
    passed: float,
    default_threshold: float,
) -> control_pb2.CellVolume:
    message = control_pb2.CellVolume(
        cell=_cell_message(cell),
        sent_count=volume.sent,
        in_flight_count=max(0, volume.in_flight),
        critical_count=volume.critical,
        threshold=default_threshold,
    )
    if controlled is not None:
        message.target_per_day = controlled.state.target
        message.paced_target = controlled.state.target * passed
        message.threshold = controlled.judgement.threshold if controlled.judgement else 0.0
    return message


def _objective_message(segment: str, weights: Iterable[HeadWeight]) -> control_pb2.Objective:
    return control_pb2.Objective(
        segment=segment,
        weights=[
            control_pb2.HeadWeight(
                head=Head(one.head), channel=Channel(one.channel), weight=one.weight
            )
            for one in weights
        ],
    )


def _wrong(path: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{path}: {problem}", fields=[FieldError(path, problem)])
