"""The running services as the replay sees them: the public gRPC contract and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc
from heliograph.pacer.v1alpha1 import pacer_pb2_grpc
from heliograph.policy.v1alpha1 import policy_pb2_grpc
from heliograph.type.v1alpha1 import status_pb2

from services.runtime.channels import Peers
from services.runtime.settings import Endpoint, RuntimeSettings

LONG_CALL_S = 600.0
"""Deadline in seconds of calls that work through all users."""

Thing = TypeVar("Thing")


class ReplayError(Exception):
    """The replay can't go on: a service refused something, or can't be reached."""


class BatchAnswer(Protocol):
    """What the answers of batches have in common."""

    @property
    def rejections(self) -> Sequence[status_pb2.Rejection]:
        """The items that were not accepted."""


@dataclass(frozen=True, slots=True)
class Services:
    """Stubs of the services that the replay calls. They carry the simulated time of `clock.at`."""

    candidate: candidate_pb2_grpc.CandidateServiceAsyncStub
    policy: policy_pb2_grpc.PolicyServiceAsyncStub
    pacer: pacer_pb2_grpc.PacerServiceAsyncStub


@asynccontextmanager
async def connected(
    addresses: Mapping[str, str], settings: RuntimeSettings | None = None
) -> AsyncIterator[Services]:
    """Channels to the services at these addresses (`host:port` by name), closed at the end.

    `settings` say how to connect (TLS, message size). A refused or broken call anywhere inside
    becomes a ReplayError.
    """
    changes: dict[str, object] = {"simulation": True}  # else the simulated time isn't sent
    changes |= {name: Endpoint(address=address) for name, address in addresses.items()}
    peers = Peers((settings or RuntimeSettings()).model_copy(update=changes), caller="replay")
    try:
        yield Services(
            candidate_pb2_grpc.CandidateServiceStub(peers.channel("candidate")),
            policy_pb2_grpc.PolicyServiceStub(peers.channel("policy")),
            pacer_pb2_grpc.PacerServiceStub(peers.channel("pacer")),
        )
    except grpc.aio.AioRpcError as error:
        raise ReplayError(f"{error.code().name}: {error.details()}") from error
    finally:
        await peers.close()


def batches(things: Sequence[Thing], size: int) -> Iterable[Sequence[Thing]]:
    """The things in order, `size` at a time."""
    return (things[first : first + size] for first in range(0, len(things), size))


def require_accepted(what: str, answer: BatchAnswer) -> None:
    """Raise ReplayError, with the first reason, when anything of a batch was rejected."""
    if not answer.rejections:
        return
    first = answer.rejections[0]
    fields = "".join(f"; {field.field}: {field.description}" for field in first.fields)
    raise ReplayError(
        f"{len(answer.rejections)} {what} rejected; number {first.index}: "
        f"{first.reason}: {first.message}{fields}"
    )
