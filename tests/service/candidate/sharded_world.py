"""The world that an index and its shards are asked about, and questions at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from heliograph.candidate.v1alpha1 import recommending_pb2
from heliograph.policy.v1alpha1 import policy_pb2_grpc, recipients_pb2
from heliograph.type.v1alpha1 import event_pb2, notification_pb2
from sqlalchemy import text

from services.runtime.database import Database
from tests.service.candidate.calls import (
    NOW,
    Candidate,
    event_type,
    follows,
    friend,
    interaction,
    stamp,
)
from tests.service.candidate.sharded import Sharded

SHARDS = 3
LATER = NOW + timedelta(hours=1)
USERS = [f"u{number:03}" for number in range(90)]
ITEMS = [f"i{number:02}" for number in range(16)]
PUSH = notification_pb2.CHANNEL_PUSH
Parameters = recommending_pb2.RecommendationParameters
GROUPS = ("north", "south", "")
USER_FILTERS = (
    "user.age > 30",
    "has(user.group) && user.group == 'north'",
    "user.interaction_count > 2",
    "has(user.rare) && user.rare",
)
ITEM_FILTERS = ("item.topic != 'a'", "item.interaction_count > 8")


@dataclass
class Both:
    """The same world, whole and in shards."""

    whole: Candidate
    front: Candidate
    channel: grpc.aio.Channel
    made: Sharded
    database: Database

    async def same(self, method: str, request: Message) -> Any:
        """The answer of both, which is one up to rounding: sums are made in another order."""
        answers = await self._answers(method, request)
        numbers, others = zip(*map(_parted, answers), strict=True)
        np.testing.assert_allclose(*numbers, rtol=1e-6)
        assert others[0] == others[1]
        return answers[1]

    async def _answers(self, method: str, request: Message) -> list[Any]:
        """What one gave doesn't count for the other's rotation."""
        answers = []
        for one in (self.whole, self.front):
            answers.append(_plain(await getattr(one.stub, method)(request)))
            async with self.database.unit_of_work() as work:
                query = text("DELETE FROM recommendations WHERE answer_time >= :time")
                await work.execute(query, {"time": LATER})
                await work.commit()
        return answers


def _plain(answer: Any) -> Any:
    for name in ("recommendation_id", "next_page_token", "exposure"):
        if name in answer.DESCRIPTOR.fields_by_name:
            answer.ClearField(name)
    if "budget" in answer.DESCRIPTOR.fields_by_name and answer.HasField("budget"):
        answer.budget.ClearField("age")
    return answer


def _parted(answer: Any) -> tuple[list[float], Any]:
    """What is computed from scores, and an answer without it."""
    rest, numbers = type(answer).FromString(answer.SerializeToString()), list[float]()
    for name in ("users", "items"):
        for scored in getattr(rest, name, ()):
            numbers += scored.score, scored.relevance
            scored.score = scored.relevance = 0
    if isinstance(rest, recommending_pb2.EstimateAudienceResponse):
        numbers += rest.expected_interaction_count, *rest.relevance_deciles
        rest.expected_interaction_count = 0
        del rest.relevance_deciles[:]
    return numbers, rest


def _users(random: Random, names: Sequence[str]) -> list[event_pb2.User]:
    users = []
    for name in names:
        user = event_pb2.User(user_id=name, create_time=stamp(NOW - timedelta(days=80)))
        user.attributes["age"].int_value = random.randint(18, 60)
        if group := random.choice(GROUPS):
            user.attributes["group"].string_value = group
        users.append(user)
    users[0].attributes["rare"].bool_value = True  # of which other shards know nothing
    return users


def _items(random: Random) -> list[event_pb2.Item]:
    items = []
    for number, name in enumerate(ITEMS):
        created = stamp(NOW - timedelta(days=90 if number < 12 else 2))
        item = event_pb2.Item(item_id=name, title=name, create_time=created)
        item.attributes["topic"].string_value = random.choice(["a", "b", "c"])
        items.append(item)
    items[0].attributes["creator"].string_value = USERS[1]
    items[13].attributes["creator"].string_value = USERS[2]
    return items


def _done(random: Random, users: Sequence[str], until: float) -> list[event_pb2.Interaction]:
    return [
        interaction(
            user,
            ITEMS[(int(user[1:]) % 3 * 4 + random.randint(0, 6)) % 14],
            random.choice([1.0, 1.0, 1.0, -1.0]),
            NOW - timedelta(days=random.uniform(until, 60)),
        )
        for user in users
        for _ in range(random.randint(1, 5))
    ]


async def fill(
    whole: Candidate, policy: policy_pb2_grpc.PolicyServiceAsyncStub, random: Random
) -> None:
    await whole.prepare(kinds=[event_type("item.suggestion"), event_type("news")])
    await whole.items(_items(random))
    await whole.users(_users(random, USERS))
    await whole.interactions(_done(random, USERS[:60], 2.0))
    recipients = [
        recipients_pb2.Recipient(
            user_id=user,
            time_zone="UTC",
            opt_ins=[PUSH] if number % 4 else [],
            endpoints=[recipients_pb2.Endpoint(channel=PUSH, address=f"token-{user}")],
        )
        for number, user in enumerate(USERS[:70])
    ]
    request = recipients_pb2.UpsertRecipientsRequest(recipients=recipients)
    await policy.UpsertRecipients(iter([request]))


async def go_on(front: Candidate, random: Random) -> None:
    """What came after the model; and answers that rotation knows of."""
    await front.interactions(_done(random, USERS[40:80], 0.5))
    await front.relations(
        *(friend(USERS[n], USERS[(n * 7 + 3) % 80]) for n in range(0, 80, 2)),
        *(follows(USERS[n], USERS[1 + n % 2]) for n in range(0, 80, 3)),
    )
    for item in ITEMS[:3]:
        request = recommending_pb2.RecommendUsersToItemRequest(
            item_id=item, parameters=Parameters(count=20)
        )
        await front.stub.RecommendUsersToItem(request)


def random_parameters(random: Random, *, users: bool) -> Parameters:
    made = Parameters(count=random.choice([1, 5, 30, 200]))
    if random.random() < 0.3:
        made.min_relevance = random.choice([0.01, 0.1, 0.3])
    if random.random() < 0.5:
        made.filter = random.choice(USER_FILTERS if users else ITEM_FILTERS)
    if random.random() < 0.4:
        made.booster = (
            "1.0 + double(user.age) / 50.0" if users else "1.0 + double(item.interaction_count)"
        )
    if random.random() < 0.4:
        made.rotation_rate = 0.8
        made.rotation_time.CopyFrom(Duration(seconds=7200))
    if random.random() < 0.5:
        made.diversity_attribute = random.choice(["group", "age"]) if users else "topic"
        made.diversity = random.choice([0.0, 0.3, 1.0])
    if random.random() < 0.3:
        made.include_interacted = True
    if users and random.random() < 0.4:
        made.respect_budget = random.choice(
            [recommending_pb2.BUDGET_USE_DISCOUNT, recommending_pb2.BUDGET_USE_EXCLUDE]
        )
    return made
