"""The other services, as the pacer calls them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from heliograph.candidate.v1alpha1 import candidate_pb2_grpc
from heliograph.copygen.v1alpha1 import copygen_pb2_grpc
from heliograph.policy.v1alpha1 import policy_pb2_grpc
from heliograph.ranker.v1alpha1 import ranker_pb2_grpc

from services.runtime.channels import Peers

if TYPE_CHECKING:
    from heliograph.candidate.v1alpha1.candidate_pb2_grpc import CandidateServiceAsyncStub
    from heliograph.copygen.v1alpha1.copygen_pb2_grpc import CopygenServiceAsyncStub
    from heliograph.policy.v1alpha1.policy_pb2_grpc import PolicyServiceAsyncStub
    from heliograph.ranker.v1alpha1.ranker_pb2_grpc import RankerServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Clients:
    """One stub for each service."""

    candidate: "CandidateServiceAsyncStub"
    ranker: "RankerServiceAsyncStub"
    policy: "PolicyServiceAsyncStub"
    copygen: "CopygenServiceAsyncStub"

    @classmethod
    def of(cls, peers: Peers) -> Self:
        """Stubs over the service's channels."""
        return cls(
            candidate_pb2_grpc.CandidateServiceStub(peers.channel("candidate")),
            ranker_pb2_grpc.RankerServiceStub(peers.channel("ranker")),
            policy_pb2_grpc.PolicyServiceStub(peers.channel("policy")),
            copygen_pb2_grpc.CopygenServiceStub(peers.channel("copygen")),
        )
