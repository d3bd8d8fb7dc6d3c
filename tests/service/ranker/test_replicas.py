"""Two replicas beside each other on one database."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import numpy as np
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc
from heliograph.policy.v1alpha1 import policy_pb2_grpc

from services.ranker.catalogue import Catalogue
from services.ranker.feature_store import FeatureStore
from services.ranker.features import item_key
from services.ranker.features.items import units
from services.ranker.features.vocabulary import Counter
from services.ranker.feed import FeedFollower
from services.runtime.clock import Clock, at
from services.runtime.logs import logger
from tests.conftest import OpenDatabase
from tests.service.ranker.conftest import NOW, Peers


class Replica:
    """What of a replica follows the logs."""

    def __init__(self, open_database: OpenDatabase, channel: grpc.aio.Channel) -> None:
        database = open_database("ranker")
        policy = policy_pb2_grpc.PolicyServiceStub(channel)
        self.feed = FeedFollower(database, policy, Clock(simulation=True), logger("ranker"))
        self.catalogue = Catalogue(database, candidate_pb2_grpc.CandidateServiceStub(channel))
        self.store = FeatureStore(database, cached_states=2)

    async def follow(self) -> None:
        await self.catalogue.follow()
        await self.feed.catch_up()

    async def sends(self, users: list[str]) -> list[int]:
        """How many sends of each user are counted."""
        states = await self.store.states(users)
        return [int((state.ledger["counter"] == Counter.PUSH_SENDS).sum()) for state in states]


async def test_replicas_apply_the_feed_once_and_see_each_others_work(
    open_database: OpenDatabase, peers: Peers
) -> None:
    peers.batch = 7
    users = [f"u{number}" for number in range(5)]
    for number in range(60):
        moment = NOW - timedelta(hours=number)
        score = 0.0 if number % 4 else 0.2
        decision, item_id = f"20260105.{number}", f"i{number % 6}"
        peers.sent(moment, users[number % 5], decision, item_id, source_score=score)
        peers.engaged(moment, users[number % 5], f"20260105.{number}", f"i{number % 6}")
    async with grpc.aio.insecure_channel(peers.address) as channel:
        replicas = [Replica(open_database, channel) for _ in range(2)]
        assert await replicas[1].sends(users) == [0] * 5
        with at(NOW):
            await asyncio.gather(*(replica.follow() for replica in replicas))
        for replica in replicas:
            assert await replica.sends(users) == [12] * 5
            await replica.catalogue.refresh()
            items = replica.catalogue.items
            keys = np.array([item_key(f"i{number}") for number in range(6)])
            scored = [10, 10, 5, 5 * units(0.2)]
            assert items.history(keys).tolist() == [scored, [10, 10, 0, 0]] * 3
            assert items.refs(keys).all()
        peers.sent(NOW, "u0", "20260105.new", "i0")
        with at(NOW):
            await replicas[0].feed.catch_up()
        assert await replicas[1].sends(users) == [13, 12, 12, 12, 12]
