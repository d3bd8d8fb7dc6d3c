"""Metrics have one naming scheme and may be asked for twice in one process."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client import generate_latest

from services.runtime import metrics


def test_a_metric_is_made_once() -> None:
    first = metrics.counter("example", "sends", "", "Sends.", ["channel"])
    again = metrics.counter("example", "sends", "", "Sends.", ["channel"])
    first.labels("push").inc()
    again.labels("push").inc()
    assert 'heliograph_example_sends_total{channel="push"} 2.0' in generate_latest().decode()


def test_a_name_has_one_kind() -> None:
    metrics.gauge("example", "backlog", "events", "Waiting.")
    with pytest.raises(ValueError, match="heliograph_example_backlog_events"):
        metrics.histogram("example", "backlog", "events", "Waiting.")


def test_the_endpoint_serves_and_stops() -> None:
    metrics.histogram("example", "rank", "seconds", "Time to rank.").observe(0.01)
    endpoint = metrics.MetricsEndpoint("127.0.0.1", 0)
    url = f"http://127.0.0.1:{endpoint.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert b"heliograph_example_rank_seconds_count" in answer.read()
    endpoint.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=10)
