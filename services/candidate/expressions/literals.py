"""Arguments that have to be literals: times, spans of time, patterns and time zones."""

from datetime import datetime, timedelta
from functools import lru_cache

from cel_expr_python import cel
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.candidate.expressions import texts, zones
from services.candidate.expressions.schema import AttributeType
from services.candidate.expressions.values import typed_value

_PARSERS = {
    AttributeType.TIMESTAMP: (cel.Type.TIMESTAMP, "timestamp", "2026-01-31T12:00:00Z"),
    AttributeType.DURATION: (cel.Type.DURATION, "duration", "36h30m"),
}


class LiteralFault(Exception):
    """Says what is wrong with a literal."""


@lru_cache(maxsize=1024)
def parse_literal(kind: AttributeType, text: str) -> int:
    """Microseconds of the time or span of time that CEL reads from `text`; LiteralFault if it
    can't, or if it is finer than a microsecond."""
    declared, function, example = _PARSERS[kind]
    variables = {"text": cel.Type.STRING, "value": declared}
    environment = cel.NewEnv(variables=variables)
    value = environment.compile(f"{function}(text)").eval(data={"text": text}).value()
    if not isinstance(value, datetime | timedelta):
        raise LiteralFault(f'"{text}" is no {function}; write it as in {function}("{example}")')
    same = environment.compile(f"{function}(text) == value")
    if same.eval(data={"text": text, "value": _message(value)}).value() is not True:
        raise LiteralFault(f'"{text}" is finer than a microsecond')
    raw = typed_value(value).raw
    assert isinstance(raw, int)
    return raw


def _message(value: datetime | timedelta) -> Timestamp | Duration:
    """The value as a message: the library takes the first and last datetime for infinite times."""
    if isinstance(value, datetime):
        time = Timestamp()
        time.FromDatetime(value)
        return time
    span = Duration()
    span.FromTimedelta(value)
    return span


def require_pattern(function: str, pattern: str) -> None:
    """LiteralFault if `matches` can't use the pattern."""
    fault = texts.pattern_fault(pattern) if function == "matches" else None
    if fault:
        raise LiteralFault(fault)


def require_zone(zone: str) -> None:
    """LiteralFault for an unknown time zone."""
    fault = zones.zone_fault(zone)
    if fault:
        raise LiteralFault(f'there is no time zone "{zone}": {fault}')
