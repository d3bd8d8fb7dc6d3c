"""Wires candidate's parts together."""

import asyncio
from datetime import datetime, timedelta

from heliograph.candidate.v1alpha1 import candidate_pb2_grpc

from services.candidate import campaigns
from services.candidate.attribute_types import AttributeTypes
from services.candidate.campaigns import Campaigns
from services.candidate.catalogue import CatalogueWriter
from services.candidate.engines import Engines, open_engines
from services.candidate.exposure import Exposures
from services.candidate.handlers import CandidateHandler
from services.candidate.handlers.parts import Parts
from services.candidate.limits import Quotas
from services.candidate.pool import Pool
from services.candidate.scenarios import Scenarios
from services.candidate.settings import CandidateSettings
from services.candidate.shards.bind import bind_shard, open_front
from services.candidate.text.encoder import TextEncoder
from services.candidate.text.item_vectors import ItemVectors
from services.candidate.text.weights import model_folder
from services.candidate.upkeep import Upkeep
from services.runtime import Host
from services.runtime.errors import Aborted

CAMPAIGN_PATIENCE = timedelta(minutes=1)


async def bind(host: Host) -> None:
    """Add candidate to the host: the service with its user index, one shard of the index, or the
    service as the front of shards."""
    settings = CandidateSettings()
    _map_constraints(host)
    if settings.shard is not None:
        await bind_shard(host, settings)
        return
    front = bool(settings.shard_addresses)
    engines = await open_front(host, settings) if front else await open_engines(host, settings)
    parts = _parts(host, settings, engines)
    _schedule(host, settings, parts)

    async def embed() -> None:
        while True:
            await parts.item_vectors.run()
            await asyncio.sleep(settings.embed_interval.total_seconds())

    host.background("embed_items", embed)
    host.add(candidate_pb2_grpc.add_CandidateServiceServicer_to_server, CandidateHandler(parts))


def _parts(host: Host, settings: CandidateSettings, engines: Engines) -> Parts:
    def open_encoder() -> TextEncoder:
        return TextEncoder(model_folder(host.settings.model_dir), threads=settings.text_threads)

    attribute_types = AttributeTypes(host.database)
    return Parts(
        database=host.database,
        clock=host.clock,
        types=engines.types,
        publisher=engines.publisher,
        attribute_types=attribute_types,
        catalogue=CatalogueWriter(host.database, attribute_types, settings.clock_tolerance),
        pool=Pool(host.database, engines.ranker),
        audiences=engines.audiences,
        recommendations=engines.recommendations,
        scenarios=Scenarios(host.database),
        exposures=Exposures(host.database),
        campaigns=Campaigns(host.database, engines.types, engines.publisher),
        quotas=Quotas(host.database),
        generator=engines.generator,
        item_vectors=ItemVectors(host.database, open_encoder, settings.embed_batch, host.log),
        watch_interval=settings.watch_interval,
    )


def _schedule(host: Host, settings: CandidateSettings, parts: Parts) -> None:
    upkeep = Upkeep(host.database, settings)

    async def expire(now: datetime) -> None:
        await parts.pool.expire(settings.cleanup_batch, now)

    async def announce(now: datetime) -> None:
        await parts.pool.announce_digests(settings.cleanup_batch, now)

    async def resume(now: datetime) -> None:
        await parts.campaigns.resume_all(now - CAMPAIGN_PATIENCE, now)

    host.periodic("expire_events", settings.expiry_interval, expire)
    host.periodic("announce_digests", settings.digest_interval, announce)
    host.periodic("clean_up", settings.cleanup_interval, upkeep.run)
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
