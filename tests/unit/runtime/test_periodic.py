"""What is logged of periodic tasks that fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import grpc
import structlog
from structlog.testing import capture_logs

from services.runtime.clock import Clock
from services.runtime.periodic import Tasks

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def unavailable() -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    code = grpc.StatusCode.UNAVAILABLE
    return grpc.aio.AioRpcError(code, nothing, nothing, "connection refused")


async def test_a_service_that_cannot_be_reached_is_told_in_one_line() -> None:
    outcomes: list[Exception | None] = [unavailable(), unavailable(), None, unavailable()]
    outcomes += [ValueError("wrong"), unavailable()]
    ahead = list(outcomes)

    async def run(_now: datetime) -> None:
        if (failure := ahead.pop(0)) is not None:
            raise failure

    with capture_logs() as logs:
        tasks = Tasks("copygen", Clock(simulation=True), structlog.get_logger())
        tasks.periodic("follow", SECOND, run)
        for number in range(len(outcomes)):
            await tasks.run_due(START + number * SECOND)
    assert ahead == []
    assert [(line["log_level"], "exc_info" in line) for line in logs] == [
        ("warning", False),
        ("warning", False),
        ("error", True),
        ("warning", False),
    ]
    assert logs[0]["problem"] == "connection refused"
