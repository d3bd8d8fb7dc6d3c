"""A shard is killed while the front answers: there is no answer that it is missing from, and once
it is started again the answer is the one before."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, recommending_pb2
from pydantic import SecretStr

from services.candidate.attribute_types import AttributeTypes
from services.candidate.catalogue import CatalogueWriter
from services.candidate.catalogue_store import Interaction, Record
from tests.conftest import OpenDatabase
from tests.ports import free_addresses
from tests.service.candidate.sharded import fit_folder

SHARDS = 2
NOW = datetime(2026, 1, 5, tzinfo=UTC)
USERS = [f"u{number:02}" for number in range(40)]
ITEMS = [f"i{number}" for number in range(6)]
START_S = 100.0


class Processes:
    """Two shards and their front."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder
        self.addresses = free_addresses(SHARDS + 1)
        self.running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, place: int) -> None:
        """Start a shard, or the front, which comes last."""
        front = place == SHARDS
        own = {"HELIOGRAPH_CANDIDATE_LISTEN": self.addresses[place]}
        if front:
            own["HELIOGRAPH_CANDIDATE_SHARDS"] = ",".join(self.addresses[:SHARDS])
        options = [] if front else ["--shard", str(place), "--of", str(SHARDS)]
        with (self._folder / f"{place}.log").open("ab") as log:
            command = [sys.executable, "-m", "services.candidate", *options]
            self.running[place] = subprocess.Popen(
                command, env={**self._environ, **own}, stdout=log, stderr=log
            )

    async def serving(self, place: int) -> None:
        """Wait until it serves."""
        options = [("grpc.max_reconnect_backoff_ms", 500)]
        async with grpc.aio.insecure_channel(self.addresses[place], options) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            await check(health_pb2.HealthCheckRequest(), timeout=START_S, wait_for_ready=True)

    def kill(self, place: int) -> None:
        """As the kernel does when memory is short."""
        self.running[place].kill()
        self.running[place].wait()

    def stop(self) -> None:
        """End all of them."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(START_S)


async def _store(open_database: OpenDatabase, folder: Path) -> None:
    database = open_database("candidate")
    writer = CatalogueWriter(database, AttributeTypes(database), timedelta(minutes=5))
    await writer.put_users([Record(name, b"", NOW) for name in USERS], NOW)
    await writer.put_items([Record(name, b"", NOW) for name in ITEMS], NOW)
    pairs = [
        Interaction(user, ITEMS[(n + k) % 5], NOW - timedelta(days=1 + n % 9, hours=k), 1.0, "")
        for n, user in enumerate(USERS)
        for k in range(1 + n % 3)
    ]
    await writer.put_interactions(pairs, NOW)
    await fit_folder(database, folder)


async def test_a_killed_shard_is_never_left_out_silently(
    database_url: str, secret_key: SecretStr, open_database: OpenDatabase, tmp_path: Path
) -> None:
    await _store(open_database, tmp_path / "model")
    environ = {
        **os.environ,
        "HELIOGRAPH_ENVIRONMENT": "test",
        "HELIOGRAPH_DATABASE_URL": database_url,
        "HELIOGRAPH_SECRET_KEY": secret_key.get_secret_value(),
        "HELIOGRAPH_STATE_DIR": str(tmp_path),
        "HELIOGRAPH_OWNER_PID": str(os.getpid()),
        "HELIOGRAPH_CANDIDATE_METRICS_PORT": "0",
        "HELIOGRAPH_CANDIDATE_MODEL_FOLDER": str(tmp_path / "model"),
    }
    processes = Processes(environ, tmp_path)
    try:
        for place in range(SHARDS + 1):
            processes.start(place)
        await asyncio.gather(*(processes.serving(place) for place in range(SHARDS + 1)))
        async with grpc.aio.insecure_channel(processes.addresses[SHARDS]) as channel:
            await _killed_in_the_middle(candidate_pb2_grpc.CandidateServiceStub(channel), processes)
    finally:
        processes.stop()


async def _killed_in_the_middle(
    front: candidate_pb2_grpc.CandidateServiceAsyncStub, processes: Processes
) -> None:
    request = recommending_pb2.RecommendUsersToItemRequest(item_id=ITEMS[5])

    async def asked() -> tuple[tuple[str, float], ...]:
        """The answer; empty while a shard is missing."""
        try:
            answer = await front.RecommendUsersToItem(request, timeout=START_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            missing.add(str(error.details()).partition(" does not answer")[0])
            return ()
        return tuple((user.user_id, user.score) for user in answer.users)

    missing: set[str] = set()
    while not (expected := await asked()):
        pass  # the front's channels are still on their way to the shards
    assert len(expected) == len(USERS)
    missing.clear()
    under_way = [asyncio.ensure_future(asked()) for _ in range(30)]
    await under_way[0]
    processes.kill(1)
    assert set(await asyncio.gather(*under_way)) <= {expected, ()}
    assert await asked() == ()
    assert missing == {f"shard 1 of {SHARDS} at {processes.addresses[1]}"}
    processes.start(1)
    await processes.serving(1)
    while not (again := await asked()):
        pass  # the channel pauses between two tries
    assert again == expected
