"""What an exception that leaves a handler means to the caller."""

from collections.abc import Mapping

import grpc

from services.runtime.errors import (
    Aborted,
    DeadlineExceeded,
    DomainError,
    ResourceExhausted,
    Unavailable,
)

_OF_PEER: Mapping[grpc.StatusCode, type[DomainError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
}


def translate(error: Exception) -> DomainError | None:
    """The domain error that `error` stands for; None when it is unexpected.

    Failures of Postgres are domain errors already when they leave a unit of work. Of a peer's
    answers those pass on that say nothing about the request that we made.
    """
    if isinstance(error, DomainError):
        return error
    if isinstance(error, grpc.aio.AioRpcError) and error.code() in _OF_PEER:
        name = error.code().name
        return _OF_PEER[error.code()](f"another service answered {name}", reason=f"PEER_{name}")
    return None


def told(error: grpc.aio.AioRpcError | DomainError) -> str:
    """What a failed call says, in one line for the log: its status and details. A status has no
    text of its own but a dump of many lines."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details() or 'no details'}"
    return str(error)
