"""Pause, Resume, ListPauses, PutExperiment, ListExperiments."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from heliograph.policy.v1alpha1 import experiments_pb2, recipients_pb2, stop_switches_pb2

from services.runtime.clock import at
from tests.service.policy.recorded import NOW, PUSH, Policy


async def pause(
    policy: Policy, reason: str = "why", moment: datetime = NOW, **scope: Any
) -> stop_switches_pb2.PauseState:
    request = stop_switches_pb2.PauseRequest(
        stop_switch=stop_switches_pb2.StopSwitch(**scope), reason=reason
    )
    with at(moment):
        return (await policy.stub.Pause(request)).pause


async def resume(policy: Policy, **scope: Any) -> bool:
    request = stop_switches_pb2.ResumeRequest(stop_switch=stop_switches_pb2.StopSwitch(**scope))
    return (await policy.stub.Resume(request)).was_paused


async def pauses(policy: Policy, size: int = 0) -> list[stop_switches_pb2.PauseState]:
    found: list[stop_switches_pb2.PauseState] = []
    token = ""
    while True:
        request = stop_switches_pb2.ListPausesRequest(page_size=size, page_token=token)
        answer = await policy.stub.ListPauses(request)
        found.extend(answer.pauses)
        token = answer.next_page_token
        if not token:
            return found


def experiment(name: str = "style", **fields: Any) -> experiments_pb2.Experiment:
    defaults: dict[str, Any] = {
        "layer": "words",
        "share": 1.0,
        "active": True,
        "groups": [
            experiments_pb2.ExperimentGroup(name="warm", weight=1, overrides={"copy_style": "warm"})
        ],
    }
    return experiments_pb2.Experiment(name=name, **(defaults | fields))


async def put(
    policy: Policy, request_id: str, wanted: experiments_pb2.Experiment
) -> experiments_pb2.PutExperimentResponse:
    request = experiments_pb2.PutExperimentRequest(request_id=request_id, experiment=wanted)
    with at(NOW):
        return await policy.stub.PutExperiment(request)


async def test_pausing_and_resuming_are_idempotent(policy: Policy) -> None:
    first = await pause(policy, "outage", channel=PUSH)
    again = await pause(policy, "another", NOW + timedelta(hours=1), channel=PUSH)

    assert again == first
    assert (first.reason, first.stop_switch.channel) == ("outage", PUSH)
    assert await resume(policy, channel=PUSH)
    assert not await resume(policy, channel=PUSH)
    assert await pauses(policy) == []


async def test_pauses_are_listed_newest_first_over_pages(policy: Policy) -> None:
    scopes: list[dict[str, Any]] = [
        {"all": True},
        {"channel": PUSH},
        {"event_type": "a"},
        {"event_type": "b"},
        {"campaign_id": "spring"},
    ]
    for minutes, scope in enumerate(scopes):
        await pause(policy, moment=NOW + timedelta(minutes=minutes // 2), **scope)

    listed = [one.stop_switch for one in await pauses(policy, size=2)]

    assert listed == [stop_switches_pb2.StopSwitch(**scopes[k]) for k in (4, 2, 3, 0, 1)]


@pytest.mark.parametrize(
    ("scope", "reason"),
    [
        ({}, "r"),
        ({"all": False}, "r"),
        ({"channel": 9}, "r"),
        ({"event_type": "NOT a type"}, "r"),
        ({"campaign_id": "a\nb"}, "r"),
        ({"all": True}, ""),
        ({"all": True}, "nul\0"),
    ],
)
async def test_malformed_pauses_are_refused(
    policy: Policy, scope: dict[str, Any], reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await pause(policy, reason, **scope)

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("token", ["nonsense", "W10", "WzksICJhIiwgMV0", "é"])
async def test_page_tokens_of_elsewhere_are_refused(policy: Policy, token: str) -> None:
    for call, request in (
        (policy.stub.ListPauses, stop_switches_pb2.ListPausesRequest(page_token=token)),
        (policy.stub.ListExperiments, experiments_pb2.ListExperimentsRequest(page_token=token)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(request)  # type: ignore[operator]
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_experiment_reaches_the_users_contexts(policy: Policy) -> None:
    answer = await put(policy, "r1", experiment())

    with at(NOW):
        contexts = await policy.stub.GetUserContexts(
            recipients_pb2.GetUserContextsRequest(user_ids=["ann"])
        )

    assert answer.version == 1
    (ann,) = contexts.contexts
    assert (dict(ann.experiments), ann.copy_style, ann.experiment_version) == (
        {"style": "warm"},
        "warm",
        1,
    )


async def test_a_replayed_request_gets_the_first_answer(policy: Policy) -> None:
    first = await put(policy, "r1", experiment())
    await put(policy, "r2", experiment(active=False))

    replay = await put(policy, "r1", experiment())

    assert replay == first
    (listed,) = (
        await policy.stub.ListExperiments(experiments_pb2.ListExperimentsRequest())
    ).experiments
    assert not listed.active
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await put(policy, "r1", experiment(share=0.5))
    assert failure.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_concurrent_experiments_never_share_more_than_their_layer(policy: Policy) -> None:
    async def try_put(number: int) -> bool:
        try:
            await put(policy, f"r{number}", experiment(f"e{number}", share=0.4))
        except grpc.aio.AioRpcError as error:
            assert error.code() in (  # noqa: PT017 - either may lose
                grpc.StatusCode.FAILED_PRECONDITION,
                grpc.StatusCode.ABORTED,
            )
            return False
        return True

    taken = await asyncio.gather(*(try_put(number) for number in range(6)))

    listed = await policy.stub.ListExperiments(experiments_pb2.ListExperimentsRequest(page_size=1))
    assert 1 <= sum(taken) <= 2
    assert len(listed.experiments) == 1
    rows = await policy.rows("SELECT version FROM experiment_versions ORDER BY version")
    assert [row.version for row in rows] == list(range(1, sum(taken) + 1))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"share": 0}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"share": float("nan")}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"share": 1.1}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"groups": []}, grpc.StatusCode.INVALID_ARGUMENT),
        (
            {"groups": [experiments_pb2.ExperimentGroup(name="g", weight=float("nan"))]},
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            {"groups": [experiments_pb2.ExperimentGroup(name="g", weight=1)] * 2},
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            {
                "groups": [
                    experiments_pb2.ExperimentGroup(
                        name="g", weight=1, overrides={"cap_per_day": "many"}
                    )
                ]
            },
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            {
                "groups": [
                    experiments_pb2.ExperimentGroup(name="g", weight=1, overrides={"color": "red"})
                ]
            },
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ({"name": "second", "share": 0.6}, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
async def test_experiments_that_cannot_be_are_refused(
    policy: Policy, fields: dict[str, Any], code: grpc.StatusCode
) -> None:
    await put(policy, "r1", experiment("first", share=0.5))

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await put(policy, "r2", experiment(**({"name": "first"} | fields)))

    assert failure.value.code() is code


async def test_experiments_are_listed_by_name_over_pages(policy: Policy) -> None:
    for number, name in enumerate(["c", "a", "b"]):
        await put(policy, f"r{number}", experiment(name, layer=name, active=False))

    first = await policy.stub.ListExperiments(experiments_pb2.ListExperimentsRequest(page_size=2))
    second = await policy.stub.ListExperiments(
        experiments_pb2.ListExperimentsRequest(page_size=2, page_token=first.next_page_token)
    )

    assert [one.name for one in first.experiments] == ["a", "b"]
    assert [one.name for one in second.experiments] == ["c"]
    assert not second.next_page_token
