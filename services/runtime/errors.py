"""Domain errors, and the one table that says which gRPC status each becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

ERROR_DOMAIN = "heliograph"
STATUS_DETAILS_KEY = "grpc-status-details-bin"

# A status travels in HTTP/2 trailers, which clients limit to 8 KiB by default.
_MOST_FIELDS = 12
_LONGEST_TEXT = 160
_LONGEST_MESSAGE = 512


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: its path from the message's root, and what is wrong, for a person."""

    path: str
    description: str


class DomainError(Exception):
    """A failure that the caller is told about, with a machine-readable reason.

    `reason` is UPPER_SNAKE_CASE; `retry_after` asks the caller to wait that long; `metadata` are
    further facts for programs. The message is for a person and never contains driver text.
    """

    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        fields: Sequence[FieldError] = (),
        retry_after: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.fields = tuple(fields)
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})


class InvalidArgument(DomainError):
    """The request is wrong whatever the state of the system."""

    default_reason = "INVALID_FIELD"


class NotFound(DomainError):
    """What the request names does not exist."""

    default_reason = "NOT_FOUND"


class AlreadyExists(DomainError):
    """What the request makes exists already, and differs."""

    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(DomainError):
    """The state does not allow it; the caller has to change the state first."""

    default_reason = "FAILED_PRECONDITION"


class PermissionDenied(DomainError):
    """This caller may not call this method."""

    default_reason = "PERMISSION_DENIED"


class ResourceExhausted(DomainError):
    """A limit or quota is used up; try later."""

    default_reason = "RESOURCE_EXHAUSTED"


class Aborted(DomainError):
    """A conflict with concurrent work; the same call may succeed when repeated."""

    default_reason = "CONFLICT"


class Unavailable(DomainError):
    """Something this service needs cannot be reached now; the same call may succeed later."""

    default_reason = "UNAVAILABLE"


class OutOfRange(DomainError):
    """A cursor or page token past the valid range."""

    default_reason = "OUT_OF_RANGE"


class Unimplemented(DomainError):
    """The method, or this use of it, is not offered."""

    default_reason = "UNIMPLEMENTED"


class DeadlineExceeded(DomainError):
    """The deadline passed before the work was done."""

    default_reason = "DEADLINE_EXCEEDED"


class Internal(DomainError):
    """An unexpected failure, with an error id to look up in the log. Only the frame raises it."""

    default_reason = "INTERNAL"


ERROR_TABLE: Mapping[type[DomainError], grpc.StatusCode] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Aborted: grpc.StatusCode.ABORTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Internal: grpc.StatusCode.INTERNAL,
}


def status_code(error: DomainError) -> grpc.StatusCode:
    """The status of an error, by the nearest of its classes in ERROR_TABLE."""
    for kind in type(error).__mro__:
        if kind in ERROR_TABLE:
            return ERROR_TABLE[kind]
    return grpc.StatusCode.UNKNOWN


def error_of(status: status_pb2.Status) -> DomainError | None:
    """The domain error that a rich status was made of; None for a status of another origin."""
    info, violations = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(violations)
    kinds = [kind for kind, code in ERROR_TABLE.items() if code.value[0] == status.code]
    if info.domain != ERROR_DOMAIN or not kinds:
        return None
    fields = [FieldError(each.field, each.description) for each in violations.field_violations]
    return kinds[0](status.message, reason=info.reason, fields=fields, metadata=dict(info.metadata))


def rich_status(error: DomainError) -> status_pb2.Status:
    """`google.rpc.Status` with ErrorInfo and, where there is something to say, BadRequest and
    RetryInfo. Of many wrong fields the first dozen are named; long texts are cut."""
    facts = {key: _cut(value) for key, value in error.metadata.items()}
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=facts)
    ]
    if error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_cut(field.path), description=_cut(field.description)
            )
            for field in error.fields[:_MOST_FIELDS]
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        details.append(retry)
    return status_pb2.Status(
        code=status_code(error).value[0],
        message=_cut(error.message, _LONGEST_MESSAGE),
        details=[_packed(detail) for detail in details],
    )


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def _cut(text: str, longest: int = _LONGEST_TEXT) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
