"""Log lines carry the request and the decision that they belong to."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
import structlog

from services.runtime import calls, logs
from services.runtime.settings import RuntimeSettings


@pytest.fixture(autouse=True)
def _default_logging() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers


def test_json_lines_carry_the_ids(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(RuntimeSettings(log_format="json"))
    log = logs.logger("policy")

    def decide() -> None:
        calls.set_request_id("r-1")
        with logs.bind_decision("d-1"):
            log.info("decided", option="push")

    copy_context().run(decide)
    log.debug("not written")
    logging.getLogger("other.library").warning("careful")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first["event"] == "decided"
    assert (first["request_id"], first["decision_id"]) == ("r-1", "d-1")
    assert (first["service"], first["option"], first["level"]) == ("policy", "push", "info")
    assert second["event"] == "careful"
    assert "decision_id" not in second


def test_an_exception_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(RuntimeSettings(log_format="json"))
    try:
        raise KeyError("lost")
    except KeyError:
        logs.logger("policy").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "lost" in json.dumps(json.loads(line)["exception"])


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_tells_no_local_variables(
    log_format: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(RuntimeSettings(log_format=log_format))
    address = "".join(["so", "meone@", "example.org"])
    try:
        raise KeyError(len(address))
    except KeyError:
        logs.logger("policy").exception("failed")
    written = capsys.readouterr().err
    assert "KeyError" in written
    assert "someone@" not in written
