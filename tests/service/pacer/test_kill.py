"""Invariant 12 for the pacer: a process killed between any two steps loses and repeats nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.pacer.slot_times import SlotKey
from services.pacer.store.slots import SlotStore
from tests.conftest import OpenDatabase
from tests.service.pacer.conftest import StartPacer
from tests.service.pacer.peers import Peers


def environment(address: str, database_url: str, key: SecretStr, folder: Path) -> dict[str, str]:
    """Settings of a pacer process on any port, outside simulation mode, with a lease of 1 s."""
    peers = ("CANDIDATE", "RANKER", "POLICY", "COPYGEN")
    return os.environ | {
        "HELIOGRAPH_ENVIRONMENT": "test",
        "HELIOGRAPH_DATABASE_URL": database_url,
        "HELIOGRAPH_SECRET_KEY": key.get_secret_value(),
        "HELIOGRAPH_STATE_DIR": str(folder),
        "HELIOGRAPH_OWNER_PID": str(os.getpid()),
        "HELIOGRAPH_PACER_LISTEN": "127.0.0.1:0",
        "HELIOGRAPH_PACER_METRICS_PORT": "0",
        "HELIOGRAPH_PACER_LEASE": "PT1S",
        **{f"HELIOGRAPH_{name}_ADDRESS": address for name in peers},
    }


@pytest.mark.parametrize("step", ["Decide", "SettlePool", "CheckEvents", "AckDeliveries"])
async def test_invariant_12_killed_after_a_step(
    step: str,
    peers: Peers,
    start_pacer: StartPacer,
    open_database: OpenDatabase,
    database_url: str,
    secret_key: SecretStr,
    tmp_path: Path,
) -> None:
    peers.publish("ann", "e1")
    peers.arrivals.clear()
    due = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    store = SlotStore(open_database("pacer"))
    await store.add_arrivals("", "0:0", {"ann": [SlotKey("ann", "due", due)]})
    await store.add_arrivals("0:0", "", {})
    peers.hang = step
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.pacer",
        env=environment(peers.address, database_url, secret_key, tmp_path),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            await peers.hung.wait()
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with start_pacer(simulation=False) as pacer, asyncio.timeout(60):
        slot = (await pacer.slots("ann"))[0]
        while not slot.HasField("process_time"):
            (slot,) = await pacer.slots("ann")
        while not all(state.end for state in peers.deliveries.values()):
            await pacer.inbox("ann")
        (message,) = await pacer.inbox("ann")
    assert len(peers.deliveries) == len(peers.decisions) == 1
    assert peers.ends["ann", "e1"].decision_id == message.decision_id
    # A slot whose lease ran out with its pool settled is found empty; policy knows its decision.
    assert slot.decision_id in {"", message.decision_id}
    assert slot.decision_id != message.decision_id or step != "SettlePool"
