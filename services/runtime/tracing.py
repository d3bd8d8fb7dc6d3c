"""OpenTelemetry traces of incoming and outgoing calls; off unless an endpoint is set."""

from collections.abc import Callable, Sequence
from typing import Any

from grpc.aio import ClientInterceptor, ServerInterceptor

from services.runtime.settings import RuntimeSettings


class Tracing:
    """The interceptors that trace one service, and the exporter behind them.

    OpenTelemetry is imported only when an endpoint is set.
    """

    def __init__(
        self,
        server: Sequence[ServerInterceptor] = (),
        client: Sequence[ClientInterceptor] = (),
        shutdown: Callable[[], None] | None = None,
    ) -> None:
        self.server = tuple(server)
        self.client = tuple(client)
        self._shutdown = shutdown

    def close(self) -> None:
        """Send what is waiting and stop; blocks up to the exporter's time-out."""
        if self._shutdown is not None:
            self._shutdown()


def start(settings: RuntimeSettings, service: str) -> Tracing:
    """Tracing for one service by the settings."""
    if not settings.otlp_endpoint:
        return Tracing()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation import grpc as untyped
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create(
            {"service.namespace": "heliograph", "service.name": f"heliograph-{service}"}
        )
    )
    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    instrumentation: Any = untyped
    filters = instrumentation.filters
    observed = filters.negate(
        filters.any_of(filters.health_check(), filters.service_prefix("grpc.reflection"))
    )
    return Tracing(
        server=[instrumentation.aio_server_interceptor(provider, observed)],
        client=instrumentation.aio_client_interceptors(provider, observed),
        shutdown=provider.shutdown,
    )
