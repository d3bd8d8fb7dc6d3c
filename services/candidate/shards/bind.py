"""Puts a shard together, and the engines of the front."""

import asyncio
from datetime import datetime

from heliograph.candidate.v1alpha1 import sharding_pb2_grpc

from services.candidate.engines import (
    Engines,
    make_generator,
    make_publisher,
    open_criteria,
    open_index,
)
from services.candidate.event_types import EventTypes
from services.candidate.index.share import Share
from services.candidate.ordering import IndexRanker
from services.candidate.rotation import Recommendations
from services.candidate.settings import CandidateSettings
from services.candidate.shards.client import Shards
from services.candidate.shards.friends import Friends
from services.candidate.shards.front import ShardedAudiences
from services.candidate.shards.generation import ShardedGenerator
from services.candidate.shards.handler import ShardHandler
from services.candidate.shards.ordering import ShardedRanker
from services.candidate.shards.view import ShardIndex
from services.candidate.shards.watch import ShardWatch
from services.runtime import Host


async def bind_shard(host: Host, settings: CandidateSettings) -> None:
    """Add a shard to the host."""
    assert settings.shard is not None
    share = Share(settings.shard, settings.shard_count)
    own = await open_index(host, settings, share)
    index = ShardIndex(own, alone=share.is_all)
    types = EventTypes(host.database)
    publisher = make_publisher(host, settings, types, IndexRanker(index))
    handler = ShardHandler(
        index,
        share,
        open_criteria(host, settings, own, Recommendations(host.database)),
        make_generator(host, settings, index, types, publisher, Friends(host.database).of),
        host.clock,
    )
    host.add(sharding_pb2_grpc.add_ShardServiceServicer_to_server, handler)


async def open_front(host: Host, settings: CandidateSettings) -> Engines:
    """The engines of a service that asks shards. Raises ConfigurationError when one of them is
    another than it has to be; one that doesn't answer yet is waited for while serving."""
    shards = Shards(host.peers, settings.shard_addresses)
    watch = ShardWatch(shards, host.report_health, host.log)
    await watch.begin()

    async def exchange(_now: datetime) -> None:
        await shards.exchange()

    async def look() -> None:
        while True:
            await asyncio.sleep(settings.shard_check_interval.total_seconds())
            await watch.look()

    host.periodic("exchange_item_counts", settings.refresh_interval, exchange)
    host.background("watch_shards", look)
    types, ranker = EventTypes(host.database), ShardedRanker(shards, host.log)
    return Engines(
        types=types,
        publisher=make_publisher(host, settings, types, ranker),
        ranker=ranker,
        recommendations=Recommendations(host.database),
        audiences=ShardedAudiences(shards),
        generator=ShardedGenerator(shards),
    )
