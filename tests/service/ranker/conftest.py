"""The ranker on real Postgres and real gRPC, beside peers that serve the two logs it follows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.candidate.v1alpha1 import candidate_pb2_grpc, catalogue_pb2
from heliograph.policy.v1alpha1 import feed_pb2, policy_pb2_grpc
from heliograph.ranker.v1alpha1 import ranker_pb2, ranker_pb2_grpc
from heliograph.type.v1alpha1 import attribute_pb2, event_pb2, notification_pb2

from services.runtime.clock import at
from tests.conftest import StartSystem

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
TYPE = "movie.suggestion"
PUSH = notification_pb2.CHANNEL_PUSH
EMAIL = notification_pb2.CHANNEL_EMAIL


def stamp(moment: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(moment)
    return found


def item(number: int, title: str = "", version: int = 1) -> event_pb2.Item:
    genre = ("Comedy", "Drama", "Horror")[number % 3]
    genres = attribute_pb2.AttributeValue(list_value=attribute_pb2.StringList(values=[genre]))
    return event_pb2.Item(
        item_id=f"i{number}",
        title=title or f"Title {number}",
        item_type="movie",
        attributes={"genres": genres},
        content_version=version,
    )


def _embedding(item: event_pb2.Item) -> catalogue_pb2.ItemEmbedding:
    """Of length 1 and of its own for each title."""
    random = np.random.default_rng(list(item.title.encode()))
    vector = random.normal(size=384)
    vector /= np.linalg.norm(vector)
    return catalogue_pb2.ItemEmbedding(
        item_id=item.item_id,
        content_version=item.content_version,
        model="test",
        vector=vector.astype("<f2").tobytes(),
    )


class Peers(candidate_pb2_grpc.CandidateServiceServicer, policy_pb2_grpc.PolicyServiceServicer):
    """The logs of candidate and policy."""

    def __init__(self) -> None:
        self.address = ""
        self.items = [item(number) for number in range(6)]
        self.embeddings = {item.item_id: _embedding(item) for item in self.items[:3]}
        """By item; those of items without one are made later."""
        self.entries: list[feed_pb2.FeedEntry] = []
        self.batch = 1000
        self.oldest_entry = 0
        """Entries before it have been dropped."""
        self.policy_down = False

    async def WatchItems(
        self, request: catalogue_pb2.WatchItemsRequest, context: Any
    ) -> AsyncIterator[catalogue_pb2.WatchItemsResponse]:
        read = int(request.cursor or 0)
        if read < len(self.items):
            assert request.embeddings
            changed = self.items[read:]
            embeddings = [
                made
                for item in changed
                if (made := self.embeddings.get(item.item_id)) is not None
                and made.content_version == item.content_version
            ]
            yield catalogue_pb2.WatchItemsResponse(
                items=changed, embeddings=embeddings, cursor=str(len(self.items))
            )

    def embed(self, item: event_pb2.Item) -> None:
        """The embedding of an item's text has been made: it is sent again."""
        self.embeddings[item.item_id] = _embedding(item)
        self.items.append(item)

    async def ReadFeed(
        self, request: feed_pb2.ReadFeedRequest, context: Any
    ) -> feed_pb2.ReadFeedResponse:
        if self.policy_down:
            await context.abort(grpc.StatusCode.INTERNAL, "down")
        read = int((request.cursor or f"0:{self.oldest_entry}").split(":")[1])
        if read < self.oldest_entry:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "cursor is too old")
        end = min(read + self.batch, len(self.entries))
        return feed_pb2.ReadFeedResponse(
            entries=self.entries[read:end], cursor=f"0:{end}", more=end < len(self.entries)
        )

    def decided(
        self,
        moment: datetime,
        user: str,
        decision: str,
        *,
        rank_id: str = "",
        event: str = "",
        channel: notification_pb2.Channel.ValueType = PUSH,
    ) -> None:
        """Policy decided for the user; `event` empty: to send nothing."""
        entry = feed_pb2.DecisionEntry(decision_id=decision, rank_id=rank_id, send=bool(event))
        if event:
            entry.event_id, entry.event_type, entry.channel = event, TYPE, channel
        self._add(moment, user, decision=entry)

    def sent(
        self,
        moment: datetime,
        user: str,
        decision: str,
        item_id: str,
        channel: notification_pb2.Channel.ValueType = PUSH,
        source_score: float = 0.0,
    ) -> None:
        """A delivery went out."""
        entry = feed_pb2.SendEntry(
            delivery_id=f"{decision}-d",
            decision_id=decision,
            event_type=TYPE,
            item_ids=[item_id],
            channel=channel,
            source_score=source_score,
        )
        self._add(moment, user, send=entry)

    def engaged(
        self,
        moment: datetime,
        user: str,
        decision: str,
        item_id: str,
        kind: notification_pb2.EngagementKind.ValueType = notification_pb2.ENGAGEMENT_KIND_OPEN,
        channel: notification_pb2.Channel.ValueType = PUSH,
    ) -> None:
        """The user did something with a notification, ten minutes after it was decided."""
        entry = feed_pb2.EngagementEntry(
            engagement_id=f"{decision}-{kind}",
            decision_id=decision,
            kind=kind,
            event_type=TYPE,
            item_ids=[item_id],
            channel=channel,
            decide_time=stamp(moment - timedelta(minutes=10)),
        )
        self._add(moment, user, engagement=entry)

    def dropped(self, moment: datetime, user: str, decision: str) -> None:
        """A delivery was dropped late."""
        entry = feed_pb2.DropEntry(delivery_id=f"{decision}-d", decision_id=decision)
        self._add(moment, user, drop=entry)

    def session(self, moment: datetime, user: str, session: str) -> None:
        """The user had a session."""
        self._add(moment, user, session=feed_pb2.SessionEntry(session_id=session))

    def _add(self, moment: datetime, user: str, **entry: Any) -> None:
        self.entries.append(feed_pb2.FeedEntry(event_time=stamp(moment), user_id=user, **entry))


class Ranker:
    """The ranker's methods, each called at a simulated time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = ranker_pb2_grpc.RankerServiceStub(channel)

    async def rank(
        self, users: Sequence[str], items: Sequence[Sequence[str]], now: datetime = NOW
    ) -> ranker_pb2.RankResponse:
        """Rank one event per item for each user."""
        return await self.call(request(users, items), now)

    async def call(
        self, message: ranker_pb2.RankRequest, now: datetime = NOW
    ) -> ranker_pb2.RankResponse:
        with at(now):
            return await self.stub.Rank(message)

    async def snapshot(
        self, rank_id: str, user: str, now: datetime = NOW
    ) -> ranker_pb2.GetSnapshotResponse:
        with at(now):
            return await self.stub.GetSnapshot(
                ranker_pb2.GetSnapshotRequest(rank_id=rank_id, user_id=user)
            )


def request(users: Sequence[str], items: Sequence[Sequence[str]]) -> ranker_pb2.RankRequest:
    """Each user's events `<user>-<item>`, one for each of the user's items."""
    message = ranker_pb2.RankRequest(
        users=[
            ranker_pb2.RankUser(user_id=user, segment="core", time_zone="America/New_York")
            for user in users
        ]
    )
    for row, wanted in enumerate(items):
        for item_id in wanted:
            message.user_row.append(row)
            message.events.add(
                event_id=f"{users[row]}-{item_id}",
                event_type=TYPE,
                item_ids=[item_id],
                source="popular",
                source_score=0.5,
            )
    return message


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    servicer = Peers()
    server = grpc.aio.server()
    candidate_pb2_grpc.add_CandidateServiceServicer_to_server(servicer, server)
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield servicer
    await server.stop(None)


@pytest.fixture
def beside(peers: Peers) -> dict[str, str]:
    """Settings of a ranker beside these peers."""
    return {
        "HELIOGRAPH_CANDIDATE_ADDRESS": peers.address,
        "HELIOGRAPH_POLICY_ADDRESS": peers.address,
    }


@pytest.fixture
async def ranker(start_system: StartSystem, beside: dict[str, str]) -> AsyncIterator[Ranker]:
    async with start_system("ranker", simulation=True, environ=beside) as system:
        yield Ranker(system.channel("ranker"))
