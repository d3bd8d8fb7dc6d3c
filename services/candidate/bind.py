"""Wires candidate's parts together."""

import asyncio
from datetime import datetime, timedelta

from heliograph.candidate.v1alpha1 import candidate_pb2_grpc
from heliograph.policy.v1alpha1 import policy_pb2_grpc

from services.candidate import campaigns
from services.candidate.audiences import Audiences
from services.candidate.budget import Budgets
from services.candidate.campaigns import Campaigns
from services.candidate.catalogue import CatalogueWriter
from services.candidate.criteria import CriteriaReader
from services.candidate.event_types import EventTypes
from services.candidate.exposure import Exposures
from services.candidate.generation import GenerationOptions, Generator
from services.candidate.handlers import CandidateHandler
from services.candidate.handlers.parts import Parts
from services.candidate.index import IndexOptions, UserIndex
from services.candidate.index.model_folder import ModelFolder
from services.candidate.limits import Quotas
from services.candidate.pool import Pool
from services.candidate.publisher import Publisher
from services.candidate.rotation import Recommendations
from services.candidate.scenarios import Scenarios
from services.candidate.settings import CandidateSettings
from services.candidate.sources.availability import AvailabilityOptions
from services.candidate.text.encoder import TextEncoder
from services.candidate.text.item_vectors import ItemVectors
from services.candidate.text.weights import model_folder
from services.candidate.upkeep import Upkeep
from services.runtime import Host
from services.runtime.errors import Aborted

CAMPAIGN_PATIENCE = timedelta(minutes=1)
BUDGET_INTERVAL = timedelta(seconds=10)
"""How often budgets that are in use are looked at; they are read again when half as old as they may
get."""


async def bind(host: Host) -> None:
    """Add candidate to the host."""
    settings = CandidateSettings()
    _map_constraints(host)
    options = IndexOptions(settings.refit_interval, settings.fit_seed, settings.fit_threads)
    path = settings.model_folder
    folder = None if path is None else ModelFolder(path, host.log)
    index = UserIndex(host.database, host.clock, options, folder)
    await index.fitted()
    policy = policy_pb2_grpc.PolicyServiceStub(host.peers.channel("policy"))
    budgets = Budgets(host.database, policy, host.clock, host.log, settings.pool_size)
    parts = _parts(host, settings, index, budgets)
    _schedule(host, settings, index, parts)

    async def keep_budgets(now: datetime) -> None:
        await budgets.keep_fresh(index.state.catalogue, now)

    async def embed() -> None:
        while True:
            await parts.item_vectors.run()
            await asyncio.sleep(settings.embed_interval.total_seconds())

    host.background("embed_items", embed)
    host.periodic("read_budgets", BUDGET_INTERVAL, keep_budgets)
    host.add(candidate_pb2_grpc.add_CandidateServiceServicer_to_server, CandidateHandler(parts))


def _parts(host: Host, settings: CandidateSettings, index: UserIndex, budgets: Budgets) -> Parts:
    types = EventTypes(host.database)
    publisher = Publisher(
        host.database,
        types,
        index,
        pool_size=settings.pool_size,
        tolerance=settings.clock_tolerance,
    )
    options = GenerationOptions(
        event_type=settings.generated_event_type,
        chunk=settings.generate_chunk,
        repeat_horizon=settings.repeat_horizon,
        fresh_window=settings.fresh_window,
        friend_window=settings.friend_window,
        availability=AvailabilityOptions(
            settings.least_availability,
            settings.availability_half_life / timedelta(days=1),
            settings.exploration_share,
        ),
    )
    recommendations = Recommendations(host.database)

    def open_encoder() -> TextEncoder:
        return TextEncoder(model_folder(host.settings.model_dir), threads=settings.text_threads)

    return Parts(
        database=host.database,
        clock=host.clock,
        types=types,
        publisher=publisher,
        catalogue=CatalogueWriter(host.database, settings.clock_tolerance),
        pool=Pool(host.database, index),
        audiences=Audiences(index, CriteriaReader(recommendations, budgets, host.clock)),
        recommendations=recommendations,
        scenarios=Scenarios(host.database),
        exposures=Exposures(host.database),
        campaigns=Campaigns(host.database, types, publisher),
        quotas=Quotas(host.database),
        generator=Generator(host.database, host.clock, index, types, publisher, options, host.log),
        item_vectors=ItemVectors(host.database, open_encoder, settings.embed_batch, host.log),
        watch_interval=settings.watch_interval,
    )


def _schedule(host: Host, settings: CandidateSettings, index: UserIndex, parts: Parts) -> None:
    upkeep = Upkeep(host.database, settings)

    async def expire(now: datetime) -> None:
        await parts.pool.expire(settings.cleanup_batch, now)

    async def announce(now: datetime) -> None:
        await parts.pool.announce_digests(settings.cleanup_batch, now)

    async def refresh(_now: datetime) -> None:
        await index.fitted()

    async def resume(now: datetime) -> None:
        await parts.campaigns.resume_all(now - CAMPAIGN_PATIENCE, now)

    host.periodic("expire_events", settings.expiry_interval, expire)
    host.periodic("announce_digests", settings.digest_interval, announce)
    host.periodic("clean_up", settings.cleanup_interval, upkeep.run)
    host.periodic("refresh_index", settings.refresh_interval, refresh)
    host.periodic("resume_campaigns", settings.expiry_interval, resume)


def _map_constraints(host: Host) -> None:
    def repeat() -> Aborted:
        return Aborted("a concurrent call stored the same; repeat the call")

    host.map_constraints(
        {
            "event_accepted_once": repeat,
            "event_first_end_stands": repeat,
            "ready_queued_once": repeat,
            "event_type_named_once": repeat,
            "request_answered_once": repeat,
            "scenario_named_once": repeat,
            "campaign_requested_once": repeat,
            "generated_once": repeat,
            "relation_stored_once": repeat,
            "campaign_launched_once": campaigns.campaign_exists,
        }
    )
