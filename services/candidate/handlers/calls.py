"""The service's RPCs, put together from their groups."""

from heliograph.candidate.v1alpha1 import candidate_pb2_grpc

from services.candidate.handlers.attribute_types import AttributeTypeCalls
from services.candidate.handlers.campaigns import CampaignCalls
from services.candidate.handlers.catalogue import CatalogueCalls
from services.candidate.handlers.generating import GeneratingCalls
from services.candidate.handlers.pool import PoolCalls
from services.candidate.handlers.publishing import PublishingCalls
from services.candidate.handlers.readback import ReadbackCalls
from services.candidate.handlers.recommending import RecommendingCalls
from services.candidate.handlers.scenarios import ScenarioCalls


class CandidateHandler(
    PublishingCalls,
    CatalogueCalls,
    AttributeTypeCalls,
    RecommendingCalls,
    ReadbackCalls,
    ScenarioCalls,
    CampaignCalls,
    GeneratingCalls,
    PoolCalls,
    candidate_pb2_grpc.CandidateServiceServicer,
):
    """See the protos for what each call means."""
