"""Every domain error has a status, and its details fit what a client accepts."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2

from services.runtime import errors
from services.runtime.errors import (
    ERROR_TABLE,
    DomainError,
    FieldError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    rich_status,
    status_code,
)
from services.runtime.failures import told, translate

CLIENT_METADATA_LIMIT = 8192


def test_every_domain_error_has_its_own_status() -> None:
    kinds = DomainError.__subclasses__()
    assert set(kinds) == set(ERROR_TABLE)
    assert len(set(ERROR_TABLE.values())) == len(kinds)


def test_a_subclass_has_the_status_of_its_parent() -> None:
    class UnknownUser(NotFound):
        default_reason = "UNKNOWN_USER"

    error = UnknownUser("no user u1")
    assert status_code(error) is grpc.StatusCode.NOT_FOUND
    assert error.reason == "UNKNOWN_USER"


def test_details_name_reason_fields_and_delay() -> None:
    error = ResourceExhausted(
        "slow down",
        reason="TOO_MANY_CALLS",
        fields=[FieldError("items[2].id", "is empty")],
        retry_after=timedelta(seconds=1.5),
        metadata={"limit": "5"},
    )
    status = rich_status(error)
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail, message in zip(status.details, (info, bad, retry), strict=True):
        assert detail.Unpack(message)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "TOO_MANY_CALLS",
        "heliograph",
        {"limit": "5"},
    )
    assert [(one.field, one.description) for one in bad.field_violations] == [
        ("items[2].id", "is empty")
    ]
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=1.5)
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


def test_details_stay_below_the_limit_of_clients() -> None:
    fields = [FieldError(f'payload["{"k" * 5000}"]', "w" * 5000) for _ in range(1000)]
    status = rich_status(InvalidArgument("m" * 50_000, fields=fields))
    assert len(status.SerializeToString()) < CLIENT_METADATA_LIMIT * 3 / 4  # base64 adds a third


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.ABORTED, errors.Aborted),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (grpc.StatusCode.INVALID_ARGUMENT, None),
        (grpc.StatusCode.PERMISSION_DENIED, None),
    ],
)
def test_only_what_is_not_our_fault_passes_on_from_a_peer(
    code: grpc.StatusCode, kind: type[DomainError] | None
) -> None:
    empty = grpc.aio.Metadata()
    found = translate(grpc.aio.AioRpcError(code, empty, empty, details="internals"))
    if kind is None:
        assert found is None
    else:
        assert type(found) is kind
        assert "internals" not in found.message


def test_a_failed_call_is_told_in_one_line() -> None:
    empty = grpc.aio.Metadata()
    failed = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, details="refused")
    assert told(failed) == "UNAVAILABLE: refused"
    failed = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, empty, empty)
    assert told(failed) == "CANCELLED: no details"
    assert told(errors.Unavailable("away")) == "away"
