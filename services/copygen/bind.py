"""Wires copygen's parts together."""

from datetime import datetime

from heliograph.candidate.v1alpha1 import candidate_pb2_grpc
from heliograph.copygen.v1alpha1 import copygen_pb2_grpc
from heliograph.policy.v1alpha1 import policy_pb2_grpc

from services.copygen.following import ContentFollower, OutcomeFollower
from services.copygen.handlers import CopygenHandler
from services.copygen.picking import Picker
from services.copygen.settings import CopygenSettings
from services.copygen.store import DAY_TABLES
from services.copygen.variants import Variants
from services.runtime import Host
from services.runtime.errors import AlreadyExists
from services.runtime.partitions import drop_days_before, first_kept_day


async def bind(host: Host) -> None:
    """Add copygen to the host."""
    settings = CopygenSettings()
    candidate = candidate_pb2_grpc.CandidateServiceStub(host.peers.channel("candidate"))
    policy = policy_pb2_grpc.PolicyServiceStub(host.peers.channel("policy"))
    content = ContentFollower(host.database, candidate, host.log)
    outcomes = OutcomeFollower(host.database, policy, host.log)
    host.map_constraints(
        {
            "variants_pkey": lambda: AlreadyExists(
                "a variant of this id exists", reason="VARIANT_EXISTS"
            )
        }
    )

    async def follow(_now: datetime) -> None:
        await content.catch_up()

    async def learn(_now: datetime) -> None:
        await outcomes.catch_up()

    async def clean(now: datetime) -> None:
        first = first_kept_day(now, settings.retention)
        await drop_days_before(host.database, DAY_TABLES, first)

    host.periodic("follow_content", settings.follow_every, follow)
    host.periodic("learn_outcomes", settings.follow_every, learn)
    host.periodic("clean", settings.clean_every, clean)
    picker = Picker(host.database, host.clock, content, settings)
    variants = Variants(host.database, host.clock, content)
    handler = CopygenHandler(host.database, picker, variants)
    host.add(copygen_pb2_grpc.add_CopygenServiceServicer_to_server, handler)
