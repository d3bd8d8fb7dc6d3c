"""Structured logs on standard error, each line with the request and decision it belongs to."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from services.runtime import calls
from services.runtime.settings import RuntimeSettings

Logger = FilteringBoundLogger

# Without the local variables: they hold what people are sent and where, and a large request among
# them would take seconds to print.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)

_decision_id: ContextVar[str] = ContextVar("heliograph_decision_id", default="")


@contextmanager
def bind_decision(decision_id: str) -> Iterator[None]:
    """Log lines written inside carry this decision id."""
    token = _decision_id.set(decision_id)
    try:
        yield
    finally:
        _decision_id.reset(token)


def _add_ids(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    if request := calls.request_id():
        event.setdefault("request_id", request)
    if decision := _decision_id.get():
        event.setdefault("decision_id", decision)
    return event


def configure(settings: RuntimeSettings) -> None:
    """Set up structlog, and the standard library's loggers through it. Safe to call again."""
    shared: list[Processor] = [
        _add_ids,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Processor]
    if settings.log_format == "json":
        render = [_TRACEBACKS, structlog.processors.JSONRenderer()]
    else:
        render = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)


def logger(service: str) -> Logger:
    """The logger of a service."""
    return cast(Logger, structlog.get_logger(service=service))
