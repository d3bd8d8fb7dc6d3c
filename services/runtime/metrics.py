"""Prometheus metrics with one naming scheme: heliograph_<service>_<what>_<unit>."""

import threading
from collections.abc import Sequence
from typing import TypeVar
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server

LATENCY_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Seconds; from half a millisecond, where a healthy call is, to ten seconds."""

Metric = Counter | Gauge | Histogram
M = TypeVar("M", Counter, Gauge, Histogram)

_made: dict[str, Metric] = {}
_lock = threading.Lock()


def counter(
    service: str, what: str, unit: str, description: str, labels: Sequence[str] = ()
) -> Counter:
    """A number that only grows, exported as `..._<unit>_total`; made once per process."""
    return _get(Counter, _name(service, what, unit), description, labels)


def gauge(
    service: str, what: str, unit: str, description: str, labels: Sequence[str] = ()
) -> Gauge:
    """A number that goes up and down; made once per process."""
    return _get(Gauge, _name(service, what, unit), description, labels)


def histogram(
    service: str,
    what: str,
    unit: str,
    description: str,
    labels: Sequence[str] = (),
    buckets: Sequence[float] = LATENCY_BUCKETS,
) -> Histogram:
    """A distribution over `buckets` (upper bounds in `unit`); made once per process."""
    name = _name(service, what, unit)
    with _lock:
        found = _made.get(name)
        if found is None:
            found = _made[name] = Histogram(name, description, labels, buckets=tuple(buckets))
    return _checked(found, Histogram, name)


def _name(service: str, what: str, unit: str) -> str:
    return "_".join(part for part in ("heliograph", service, what, unit) if part)


def _get(kind: type[M], name: str, description: str, labels: Sequence[str]) -> M:
    with _lock:
        found = _made.get(name)
        if found is None:
            found = _made[name] = kind(name, description, labels)
    return _checked(found, kind, name)


def _checked(found: Metric, kind: type[M], name: str) -> M:
    if not isinstance(found, kind):
        raise ValueError(f"metric {name} exists already as a {type(found).__name__}")
    return found


class MetricsEndpoint:
    """The HTTP endpoint that Prometheus scrapes; one per process."""

    def __init__(self, host: str, port: int) -> None:
        """Serve at once; port 0 takes any free one. Raises OSError when the port is taken."""
        self._server: WSGIServer
        self._server, self._thread = start_http_server(port, host, REGISTRY)
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
