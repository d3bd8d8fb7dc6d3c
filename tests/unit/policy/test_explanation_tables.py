"""`heliograph explain`: what it says of a delivery that was dropped late."""

from __future__ import annotations

import io

import pytest
from heliograph.policy.v1alpha1 import explanation_pb2
from rich.console import Console

from services.cli.explanation_tables import render


@pytest.mark.parametrize(
    ("state", "detail", "silence"),
    [
        ("delivered", "", "did nothing (yet)"),
        ("dropped", "PAUSED", "saw nothing (yet)"),
        ("", "", "saw nothing (yet)"),
    ],
)
def test_who_was_shown_nothing_is_not_said_to_do_nothing(
    state: str, detail: str, silence: str
) -> None:
    part = explanation_pb2.ExplainDecisionResponse(delivery_state=state, delivery_detail=detail)
    printed = Console(file=io.StringIO(), width=200)
    for table in render({"decision": part}):
        printed.print(table)
    assert isinstance(printed.file, io.StringIO)
    told = printed.file.getvalue()
    assert silence in told
    assert "not ranked" in told
    assert (f"{state}: {detail}" in told) == bool(detail)
