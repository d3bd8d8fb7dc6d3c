"""Wires the ranker's parts together."""

from datetime import datetime

from heliograph.candidate.v1alpha1 import candidate_pb2_grpc
from heliograph.policy.v1alpha1 import policy_pb2_grpc
from heliograph.ranker.v1alpha1 import ranker_pb2_grpc

from services.ranker.backend import Backend
from services.ranker.batching import Batcher
from services.ranker.catalogue import Catalogue
from services.ranker.erasure import Eraser
from services.ranker.exporting import Exporter
from services.ranker.feature_store import FeatureStore
from services.ranker.feed import FeedFollower
from services.ranker.following import Following
from services.ranker.handlers import RankerHandler, RankHandler
from services.ranker.inprocess import InProcessBackend
from services.ranker.inspection import Inspector
from services.ranker.loading import LoadedModels
from services.ranker.preparing import Preparation
from services.ranker.promotion import Models
from services.ranker.rank_log import RankLog
from services.ranker.ranking import Ranker
from services.ranker.registry import Registry
from services.ranker.rehearsal import Rehearsal
from services.ranker.settings import RankerSettings
from services.ranker.shadow_log import ShadowLog
from services.ranker.shadowing import Shadowing
from services.ranker.triton import TritonBackend
from services.runtime import Host
from services.runtime.errors import Aborted
from services.runtime.settings import ConfigurationError, RuntimeSettings
from services.runtime.tls import channel_credentials


async def bind(host: Host) -> None:
    """Add the ranker to the host, with the promoted model loaded."""
    settings = RankerSettings()
    candidate = candidate_pb2_grpc.CandidateServiceStub(host.peers.channel("candidate"))
    policy = policy_pb2_grpc.PolicyServiceStub(host.peers.channel("policy"))
    host.map_constraints(
        {
            "promotions_request_id": lambda: Aborted("a concurrent call promoted; repeat the call"),
            "shadows_request_id": lambda: Aborted("a concurrent call came first; repeat the call"),
        }
    )
    log = RankLog(host.database)
    store = FeatureStore(host.database, settings.cached_states)
    catalogue = Catalogue(host.database, candidate)
    feed = FeedFollower(host.database, policy, host.clock, host.log)
    backend = _backend(settings, host.settings)
    host.on_close(backend.close)
    batcher = Batcher(backend, catalogue, settings.parallel_runs)
    registry = Registry(settings.model_dir)
    loaded = LoadedModels(registry, backend, settings.unload_after)
    models = Models(registry, loaded, Rehearsal(log, catalogue, backend), log, host.log)
    await models.follow()
    await catalogue.refresh()
    beside = Batcher(backend, catalogue, parallel_runs=1)
    shadowing = Shadowing(loaded, beside, ShadowLog(host.database), host.log)
    following = Following(catalogue, feed, models, shadowing, log, host.log)

    async def clean(now: datetime) -> None:
        await following.clean(now, settings.retention)

    host.periodic("follow_items", settings.follow_every, following.follow_items)
    host.periodic("follow_feed", settings.follow_every, following.follow_feed)
    host.periodic("follow_models", settings.follow_every, following.follow_models)
    host.background("shadow", shadowing.run)
    host.periodic("clean", settings.clean_every, clean)
    ranker = Ranker(Preparation(store, catalogue), models, batcher, log, shadowing)
    handler = RankerHandler(
        host.clock,
        RankHandler(host.clock, ranker, following),
        Inspector(log, catalogue),
        Exporter(host.database, catalogue),
        feed,
        models,
        shadowing,
        Eraser(host.database, store),
    )
    host.add(ranker_pb2_grpc.add_RankerServiceServicer_to_server, handler)


def _backend(settings: RankerSettings, runtime: RuntimeSettings) -> Backend:
    """Raises ConfigurationError."""
    if settings.backend == "triton":
        credentials = channel_credentials(runtime) if settings.triton_tls else None
        if settings.triton_tls and credentials is None:
            raise ConfigurationError(
                "HELIOGRAPH_RANKER_TRITON_TLS needs HELIOGRAPH_TLS_CERTIFICATE_FILE"
            )
        return TritonBackend(settings.triton_address, settings.triton_patience, credentials)
    return InProcessBackend(
        intra_op_threads=settings.intra_op_threads, parallel_runs=settings.parallel_runs
    )
