"""Targets, thresholds, volume and objectives by RPC, and the controller at work in the service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import pytest
from heliograph.policy.v1alpha1 import control_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.runtime.clock import at
from tests.service.policy.asked import NOW, decide, event, event_type, slot
from tests.service.policy.recorded import EMAIL, PUSH, Policy, recipient

MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)
ONLY_PUSH = event_type(channels=(PUSH,))
CELL = control_pb2.Cell(segment="dormant", channel=PUSH)


def target(
    per_day: float | None = 40.0, request_id: str = "r1", cell: control_pb2.Cell = CELL
) -> control_pb2.SetTargetRequest:
    given = control_pb2.Target(cell=cell)
    if per_day is not None:
        given.per_day = per_day
    return control_pb2.SetTargetRequest(request_id=request_id, target=given)


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def volume(policy: Policy, moment: datetime, day: str = "") -> control_pb2.CellVolume:
    with at(moment):
        request = control_pb2.WatchVolumeRequest(once=True, day=day)
        (answer,) = [one async for one in policy.stub.WatchVolume(request)]
    (cell,) = answer.cells
    return cell


async def test_a_target_is_set_once_per_request_id(policy: Policy) -> None:
    with at(NOW):
        first = await policy.stub.SetTarget(target())
        assert first.target.per_day == 40
        assert first.target.cell.experiment_group == "default"
        assert await policy.stub.SetTarget(target()) == first
        error = await refused(policy.stub.SetTarget(target(per_day=50)))
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        (known,) = (await policy.stub.GetThresholds(control_pb2.GetThresholdsRequest())).thresholds
    assert known.target_per_day == 40
    assert known.step_count == 0


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (target(per_day=float("nan")), "INVALID_ARGUMENT", "target.per_day"),
        (target(per_day=-1), "INVALID_ARGUMENT", "target.per_day"),
        (target(per_day=1e13), "INVALID_ARGUMENT", "target.per_day"),
        (target(per_day=None), "INVALID_ARGUMENT", "target.volume"),
        (target(request_id=""), "INVALID_ARGUMENT", "request_id"),
        (
            target(cell=control_pb2.Cell(segment="nobody", channel=PUSH)),
            "INVALID_ARGUMENT",
            "target.cell.segment",
        ),
        (target(cell=control_pb2.Cell(segment="core")), "INVALID_ARGUMENT", "target.cell.channel"),
        (
            target(cell=control_pb2.Cell(experiment_group="a\0b", segment="core", channel=PUSH)),
            "INVALID_ARGUMENT",
            "target.cell.experiment_group",
        ),
    ],
)
async def test_a_bad_target_is_refused(
    policy: Policy, request_: control_pb2.SetTargetRequest, code: str, field: str
) -> None:
    error = await refused(policy.stub.SetTarget(request_))
    assert error.code().name == code
    assert field.encode() in _details(error)
    assert not await policy.rows("SELECT FROM targets")


async def test_following_another_group_comes_later(policy: Policy) -> None:
    request = control_pb2.SetTargetRequest(
        request_id="r", target=control_pb2.Target(cell=CELL, follow_group="control")
    )
    error = await refused(policy.stub.SetTarget(request))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_target_of_0_sends_nothing(policy: Policy) -> None:
    with at(NOW):
        await policy.stub.SetTarget(target(per_day=0))
    asked = slot(event("a"), scores=[1, 0, 0])
    (made,) = (await decide(policy, asked, types=[ONLY_PUSH])).decisions
    assert (made.send, made.reason) == (False, "BELOW_THRESHOLD")


async def test_a_changed_target_acts_on_the_next_decision(policy: Policy) -> None:
    """Closed, then opened by a new target at the same moment, before any tick."""
    with at(NOW):
        await policy.stub.SetTarget(target(per_day=0))
        await policy.stub.SetTarget(target(per_day=100, request_id="r2"))
    (made,) = (await decide(policy, slot(event("a")), types=[ONLY_PUSH])).decisions
    assert made.send


async def test_the_first_offers_open_a_cell_at_its_share(policy: Policy) -> None:
    """200 users, 3 slots a day each of which 80 % come to something, 60 sends a day: an eighth of
    the first offers passes."""
    names = [f"user-{number:03}" for number in range(200)]
    await policy.upsert(*(recipient(name, opt_ins=(PUSH,)) for name in names))
    with at(NOW):
        await policy.stub.SetTarget(target(per_day=60))
    scores = np.random.default_rng(0).random(200)
    slots = [
        slot(event("e", name), user_id=name, scores=[score, 0, 0])
        for name, score in zip(names, scores, strict=True)
    ]
    made = (await decide(policy, *slots)).decisions
    assert sum(one.send for one in made) == pytest.approx(25, abs=3)
    with at(NOW):
        (known,) = (await policy.stub.GetThresholds(control_pb2.GetThresholdsRequest())).thresholds
    assert known.threshold == pytest.approx(0.875, abs=0.06)
    cell = await volume(policy, NOW)
    assert (cell.in_flight_count, cell.sent_count) == (sum(one.send for one in made), 0)


async def test_volume_follows_its_target_over_days(policy: Policy) -> None:
    """The service itself on simulated days: ticks by its clock, thresholds in its tables."""
    users = [f"user-{number:03}" for number in range(120)]
    zones = ("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles")
    places = {name: zones[index % len(zones)] for index, name in enumerate(users)}
    await policy.upsert(
        *(recipient(name, opt_ins=(PUSH,), time_zone=zone) for name, zone in places.items()),
        moment=MIDNIGHT,
    )
    with at(MIDNIGHT):
        await policy.stub.SetTarget(target(per_day=60))
    random = np.random.default_rng(1)
    for hour in range(1, 4 * 24):
        moment = MIDNIGHT + timedelta(hours=hour)
        slots = [
            slot(
                event(f"{name}-{hour}", name, expire_time=None),
                user_id=name,
                time=moment,
                scores=[random.random(), 0, 0],
            )
            for index, name in enumerate(users)
            if (hour - 14 - index % len(zones)) % 24 in (0, 4, 10)
        ]
        if slots:
            await decide(policy, *slots, moment=moment, types=[ONLY_PUSH])
    sent = [
        row.total
        for row in await policy.rows(
            "SELECT day, sum(count) AS total FROM volume GROUP BY day ORDER BY day"
        )
    ]
    assert sent[2:] == pytest.approx([60, 60], abs=9)
    steps = await policy.rows("SELECT outcome, integral FROM controller_steps")
    assert len(steps) > 40
    assert max(abs(row.integral) for row in steps) > 0.02
    assert {row.outcome for row in steps} <= {"MOVED", "NO_OFFERS", "NOTHING_OFFERED"}


async def test_watching_volume_tells_of_each_tick(policy: Policy) -> None:
    with at(NOW):
        await policy.stub.SetTarget(target())
        watch = policy.stub.WatchVolume(control_pb2.WatchVolumeRequest())
        first = await watch.read()
        assert [cell.target_per_day for cell in first.cells] == [40]
        second = asyncio.create_task(watch.read())
    with at(NOW + timedelta(minutes=10)):
        await policy.stub.GetThresholds(control_pb2.GetThresholdsRequest())
    assert len((await second).cells) == 1
    watch.cancel()


async def test_a_day_of_the_past_is_told_whole(policy: Policy) -> None:
    with at(NOW):
        await policy.stub.SetTarget(target())
    await decide(policy, slot(event("a")), types=[ONLY_PUSH])
    tomorrow = NOW + timedelta(days=1)
    assert (await volume(policy, tomorrow)).in_flight_count == 0
    told = await volume(policy, tomorrow, day=f"{NOW:%Y-%m-%d}")
    assert (told.in_flight_count, told.paced_target) == (1, 40)
    with at(NOW):
        watch = policy.stub.WatchVolume(control_pb2.WatchVolumeRequest(day="2026-02-30"))
        error = await refused(watch.read())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


Weight = tuple[notification_pb2.Head.ValueType, notification_pb2.Channel.ValueType, float]


def objective(segment: str, *weights: Weight) -> control_pb2.Objective:
    return control_pb2.Objective(
        segment=segment,
        weights=[
            control_pb2.HeadWeight(head=head, channel=channel, weight=weight)
            for head, channel, weight in weights
        ],
    )


OPEN = notification_pb2.HEAD_PUSH_OPEN


async def test_an_objective_rules_its_segment(policy: Policy) -> None:
    mine = objective("dormant", (OPEN, EMAIL, 2.0))
    request = control_pb2.PutObjectiveRequest(request_id="o1", objective=mine)
    first = await policy.stub.PutObjective(request)
    assert first.objective == mine
    assert await policy.stub.PutObjective(request) == first
    listed = await policy.stub.ListObjectives(control_pb2.ListObjectivesRequest(page_size=1))
    assert [one.segment for one in listed.objectives] == ["*"]
    rest = await policy.stub.ListObjectives(
        control_pb2.ListObjectivesRequest(page_token=listed.next_page_token)
    )
    assert list(rest.objectives) == [mine]
    (made,) = (await decide(policy, slot(event("a"), scores=[0.4, 0, 0]))).decisions
    assert made.channel == EMAIL
    assert made.utility == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (objective("dormant"), "objective.weights"),
        (objective("nobody", (OPEN, PUSH, 1.0)), "objective.segment"),
        (objective("dormant", (OPEN, PUSH, 0.0)), "objective.weights"),
        (objective("dormant", (OPEN, PUSH, float("nan"))), "objective.weights[0].weight"),
        (objective("dormant", (OPEN, PUSH, 1e9)), "objective.weights[0].weight"),
        (objective("dormant", (OPEN, PUSH, 1.0), (OPEN, PUSH, 2.0)), "objective.weights[1]"),
    ],
)
async def test_a_bad_objective_is_refused(
    policy: Policy, given: control_pb2.Objective, field: str
) -> None:
    request = control_pb2.PutObjectiveRequest(request_id="o", objective=given)
    error = await refused(policy.stub.PutObjective(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field.encode() in _details(error)


def _details(error: grpc.aio.AioRpcError) -> bytes:
    """The packed status, which holds the field paths as they are."""
    (packed,) = [
        value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"
    ]
    return bytes(packed)
