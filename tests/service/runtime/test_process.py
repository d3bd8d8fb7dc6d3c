"""A service's process: how it starts, what stops it, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from heliograph.policy.v1alpha1 import policy_pb2_grpc, recipients_pb2
from pydantic import SecretStr

from services.runtime import Host
from services.runtime.channels import Peers
from tests.service.runtime.conftest import StartFrame
from tests.service.runtime.handlers import PolicyHandler, bind_policy, snooze

PROGRAM = """
from services.runtime import main
from tests.service.runtime.handlers import PolicyHandler, bind_policy
main("policy", bind_policy(PolicyHandler()))
"""
ROOT = Path(__file__).parents[3]

StartProcess = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start_process(database_url: str, secret_key: SecretStr) -> Iterator[StartProcess]:
    """Starts policy as a process of its own; kills it at the end if the test left it running."""
    started: list[subprocess.Popen[str]] = []

    def start(**variables: str) -> subprocess.Popen[str]:
        given = {
            "HELIOGRAPH_ENVIRONMENT": "test",
            "HELIOGRAPH_DATABASE_URL": database_url,
            "HELIOGRAPH_SECRET_KEY": secret_key.get_secret_value(),
            "HELIOGRAPH_POLICY_LISTEN": "127.0.0.1:0",
            "HELIOGRAPH_POLICY_METRICS_PORT": "0",
            "HELIOGRAPH_SHUTDOWN_GRACE_S": "5",
        }
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env={**os.environ, **given, **variables},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def address(process: subprocess.Popen[str]) -> str:
    """Where it says that it listens."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("heliograph policy listens on 127.0.0.1:"), line
    return line.split()[4].rstrip(",")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_status_0(
    start_process: StartProcess, number: signal.Signals
) -> None:
    process = start_process()
    where = await asyncio.to_thread(address, process)
    async with grpc.aio.insecure_channel(where) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    process.send_signal(number)
    out, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


async def test_a_second_signal_ends_it_at_once(start_process: StartProcess) -> None:
    process = start_process(HELIOGRAPH_SHUTDOWN_GRACE_S="600")
    where = await asyncio.to_thread(address, process)
    async with grpc.aio.insecure_channel(where) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        first = await watch.read()
        process.send_signal(signal.SIGTERM)
        second = await watch.read()
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        assert second.status == health_pb2.HealthCheckResponse.NOT_SERVING
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 128 + signal.SIGTERM


def test_it_ends_when_its_owner_does(start_process: StartProcess) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        process = start_process(HELIOGRAPH_OWNER_PID=str(owner.pid))
        address(process)
        assert process.poll() is None
        owner.kill()
    assert process.wait(30) == 0


def test_it_does_not_outlive_an_owner_that_is_gone(start_process: StartProcess) -> None:
    owner = subprocess.Popen([sys.executable, "-c", ""])
    owner.wait()
    process = start_process(HELIOGRAPH_OWNER_PID=str(owner.pid))
    assert process.wait(30) == 0


@pytest.mark.parametrize("variable", ["HELIOGRAPH_POLICY_LISTEN", "HELIOGRAPH_POLICY_METRICS_PORT"])
def test_a_taken_port_is_one_clear_line(start_process: StartProcess, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        value = f"127.0.0.1:{port}" if variable.endswith("LISTEN") else str(port)
        process = start_process(**{variable: value})
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == (
        f"heliograph policy: policy cannot listen on 127.0.0.1:{port}: the port is taken; "
        f"change {variable}\n"
    )


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        (
            {
                "HELIOGRAPH_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
                "HELIOGRAPH_DATABASE_WAIT_S": "0.5",
            },
            "the database did not answer within 0.5 s",
        ),
        ({"HELIOGRAPH_DATABASE_URL": ""}, "set HELIOGRAPH_DATABASE_URL"),
        ({"HELIOGRAPH_RETRY_ATTEMPTS": "many"}, "HELIOGRAPH_RETRY_ATTEMPTS: "),
        ({"HELIOGRAPH_POLICY_LISTEN": "nonsense"}, "HELIOGRAPH_POLICY_LISTEN"),
        (
            {"HELIOGRAPH_ENVIRONMENT": "production", "HELIOGRAPH_SIMULATION": "true"},
            "unset HELIOGRAPH_SIMULATION",
        ),
        ({"HELIOGRAPH_POLICY_LISTEN": "127.0.0.1:x"}, "change HELIOGRAPH_POLICY_LISTEN"),
        ({"HELIOGRAPH_CALLER_ROLES": "{"}, "HELIOGRAPH_CALLER_ROLES: "),
    ],
)
def test_what_keeps_it_from_starting_is_one_clear_line(
    start_process: StartProcess, variables: dict[str, str], line: str
) -> None:
    process = start_process(**variables)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert line in err
    assert err.count("\n") == 1


async def test_a_stop_keeps_the_stated_order(start_frame: StartFrame) -> None:
    order: list[str] = []
    working, release, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def finish(_: recipients_pb2.SnoozeRequest) -> recipients_pb2.SnoozeResponse:
        working.set()
        await release.wait()
        order.append("call ended")
        return recipients_pb2.SnoozeResponse()

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("background cancelled")
            cancelled.set()

    def then(host: Host) -> None:
        host.background("work", background)
        for name in ("first", "second"):
            host.on_close(closing(name))

    def closing(name: str) -> Callable[[], Awaitable[None]]:
        async def close() -> None:
            order.append(f"closed {name}")

        return close

    system = await start_frame({"policy": bind_policy(PolicyHandler(finish), then)})
    peers = Peers(system.settings)
    stub = policy_pb2_grpc.PolicyServiceStub(peers.channel("policy"))
    async with asyncio.timeout(20):
        call = asyncio.ensure_future(stub.Snooze(snooze("u1")))
        await working.wait()
        stopping = asyncio.create_task(system.stop())
        await cancelled.wait()
        release.set()
        await call
        await stopping
    assert order == ["background cancelled", "call ended", "closed second", "closed first"]
    await peers.close()
