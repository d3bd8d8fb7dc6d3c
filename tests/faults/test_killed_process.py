"""Invariant 12 on five real processes: one is killed in the middle of the work, all start again.

The process runner stops the others when one dies, so this also covers the whole system going down.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2, publishing_pb2
from heliograph.pacer.v1alpha1 import pacer_pb2, pacer_pb2_grpc
from heliograph.policy.v1alpha1 import policy_pb2_grpc, recipients_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2
from pydantic import SecretStr

from services.cli.launch import services
from services.runtime.settings import SERVICE_NAMES, RuntimeSettings
from tests.faults.processes import count, needs_proc, process_of
from tests.ports import free_addresses

PUSH = notification_pb2.CHANNEL_PUSH
MORNING = datetime(2026, 1, 5, 8, tzinfo=UTC)
SLOT = datetime(2026, 1, 5, 9, tzinfo=UTC)
USERS = [f"user-{number}" for number in range(60)]
EVENTS_PER_USER = 3
PAUSE_S = 0.005

pytestmark = needs_proc


@pytest.fixture
def settings(
    database_url: str, secret_key: SecretStr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RuntimeSettings:
    """Free ports, and small batches, so that there is a middle to be killed in."""
    environment = {
        "HELIOGRAPH_ENVIRONMENT": "test",
        "HELIOGRAPH_SECRET_KEY": secret_key.get_secret_value(),
        "HELIOGRAPH_STATE_DIR": str(tmp_path),
        "HELIOGRAPH_PACER_BATCH_SLOTS": "5",
        "HELIOGRAPH_PACER_BATCH_DELIVERIES": "5",
    }
    addresses = free_addresses(len(SERVICE_NAMES))
    for name, address in zip(SERVICE_NAMES, addresses, strict=True):
        environment[f"HELIOGRAPH_{name.upper()}_LISTEN"] = address
        environment[f"HELIOGRAPH_{name.upper()}_METRICS_PORT"] = "0"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return RuntimeSettings()


def at(moment: datetime) -> list[tuple[str, str]]:
    return [("heliograph-time", moment.isoformat(timespec="microseconds"))]


def publish(settings: RuntimeSettings) -> None:
    """Users who take push at nine, with a few ranked events each."""
    with grpc.insecure_channel(settings.candidate.target) as channel:
        candidate = candidate_pb2_grpc.CandidateServiceStub(channel)
        kind = event_pb2.EventType(
            name="news",
            route=event_pb2.ROUTE_RANKED,
            channels=[PUSH],
            templates=[event_pb2.Template(channel=PUSH, title="News {{ number }}")],
        )
        request: Any = catalogue_pb2.PutEventTypeRequest(event_type=kind)
        candidate.PutEventType(request, metadata=at(MORNING))
        users = [event_pb2.User(user_id=user) for user in USERS]
        request = catalogue_pb2.UpsertUsersRequest(users=users)
        candidate.UpsertUsers(iter([request]), metadata=at(MORNING))
        events = [
            event_pb2.Event(
                user_id=user, event_id=f"news-{n}", event_type="news", payload={"number": str(n)}
            )
            for user in USERS
            for n in range(EVENTS_PER_USER)
        ]
        with grpc.insecure_channel(settings.policy.target) as other:
            policy = policy_pb2_grpc.PolicyServiceStub(other)
            endpoint = recipients_pb2.Endpoint(channel=PUSH, address="token")
            recipients = [
                recipients_pb2.Recipient(
                    user_id=user, opt_ins=[PUSH], endpoints=[endpoint], slot_hours=[9]
                )
                for user in USERS
            ]
            request = recipients_pb2.UpsertRecipientsRequest(recipients=recipients)
            policy.UpsertRecipients(iter([request]), metadata=at(MORNING))
        request = publishing_pb2.PublishEventsRequest(events=events)
        answer = candidate.PublishEvents(request, metadata=at(MORNING))
        assert answer.accepted_count == len(events)


def process(settings: RuntimeSettings, moment: datetime) -> pacer_pb2.ProcessUsersResponse:
    with grpc.insecure_channel(settings.pacer.target) as channel:
        pacer = pacer_pb2_grpc.PacerServiceStub(channel)
        return pacer.ProcessUsers(pacer_pb2.ProcessUsersRequest(), metadata=at(moment), timeout=60)


def kill_amid_work(
    runner: subprocess.Popen[bytes], settings: RuntimeSettings, database_url: str, victim: str
) -> None:
    """Kill -9 as soon as some, not all, slots are decided; returns when all processes are gone."""
    pid = process_of(victim, settings.state_dir)
    with (
        grpc.insecure_channel(settings.pacer.target) as channel,
        psycopg.connect(database_url, autocommit=True) as database,
    ):
        pacer = pacer_pb2_grpc.PacerServiceStub(channel)
        call = pacer.ProcessUsers.future(pacer_pb2.ProcessUsersRequest(), metadata=at(SLOT))
        while not count(database, "SELECT count(*) FROM policy.decisions"):
            with suppress(subprocess.TimeoutExpired):
                runner.wait(PAUSE_S)
        os.kill(pid, signal.SIGKILL)
        assert isinstance(call.exception(), grpc.RpcError), "it was done before the kill"
        runner.wait(30)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("victim", ["policy", "pacer"])
def test_nothing_lost_and_nothing_twice(
    settings: RuntimeSettings, database_url: str, victim: str, tmp_path: Path
) -> None:
    log = tmp_path / "services.log"
    with services(database_url, settings, simulation=True, log_file=log) as runner:
        publish(settings)
        process(settings, MORNING)
        kill_amid_work(runner, settings, database_url, victim)
    with services(database_url, settings, simulation=True, log_file=log):
        process(settings, SLOT + timedelta(minutes=5))  # the lost leases have run out
    with psycopg.connect(database_url) as database:
        decided = "SELECT count(*), count(DISTINCT (user_id, slot_id)) FROM policy.decisions"
        assert database.execute(decided).fetchone() == (len(USERS), len(USERS))
        sent = count(database, "SELECT count(*) FROM policy.decided_events")
        assert sent > 0
        assert count(database, "SELECT count(*) FROM policy.outbox") == sent
        shown = "SELECT count(*), count(DISTINCT (user_id, event_id)) FROM pacer.inbox"
        assert database.execute(shown).fetchone() == (sent, sent)
        ended = "SELECT count(*) FROM candidate.events WHERE end_kind = 1"
        assert count(database, ended) == sent
