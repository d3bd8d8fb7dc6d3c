"""Answers of an index in shards: asks all, and merges."""

from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from heliograph.candidate.v1alpha1 import sharding_pb2

from services.candidate import recommend
from services.candidate.choosing import FIRST_POOL, POOL_GROWTH
from services.candidate.matching import match
from services.candidate.merging import estimated, merged, spread_out
from services.candidate.orders import shard_of
from services.candidate.pool import unknown_user
from services.candidate.questions import (
    Audience,
    Choice,
    Direction,
    Diversity,
    Estimate,
    Found,
    NewItem,
    Page,
    Subject,
)
from services.candidate.shards.client import OTHER_ITEMS, Question, Shards, Stub
from services.candidate.shards.conversion import (
    read_answer,
    write_choice,
    write_new_item,
    write_page,
)
from services.candidate.shards.matching import RemotePart
from services.candidate.sources.arrays import Floats
from services.runtime.errors import FailedPrecondition, NotFound, Unavailable
from services.runtime.together import together

Users = sharding_pb2.FindUsersRequest
Group = sharding_pb2.SumGroupResponse


class ShardedAudiences:
    """The `Answers` of shards. Raises what one of them raises, and Unavailable, which names it,
    when one can't be reached."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def users_for_item(self, item_id: str, choice: Choice, page: Page) -> Audience:
        """See `Audiences`."""
        question = self._shards.question()
        total = await self._item_sum(question, item_id)
        asked = Users(stored_item=sharding_pb2.StoredItem(item_id=item_id, sum=total))
        found = await self._users(question, asked, _for_item(item_id), choice, page)
        return replace(found, warm=total.like_count > 0, subject_count=total.interaction_count)

    async def users_for_new_item(self, item: NewItem, choice: Choice, page: Page) -> Audience:
        """See `Audiences`."""
        asked = Users(unstored_item=write_new_item(item))
        question = self._shards.question()
        return await self._users(question, asked, _for_item(item.item_id), choice, page)

    async def estimate(self, item_id: str, choice: Choice, page: Page) -> Estimate:
        """See `Audiences`."""
        question = self._shards.question()
        total = await self._item_sum(question, item_id)
        asked = Users(stored_item=sharding_pb2.StoredItem(item_id=item_id, sum=total))
        found = await self._measured(question, asked, _for_item(item_id), choice, page)
        return replace(found, warm=total.like_count > 0, subject_count=total.interaction_count)

    async def estimate_new(self, item: NewItem, choice: Choice, page: Page) -> Estimate:
        """See `Audiences`."""
        asked = Users(unstored_item=write_new_item(item))
        question = self._shards.question()
        return await self._measured(question, asked, _for_item(item.item_id), choice, page)

    async def items_for_user(self, user_id: str, choice: Choice, page: Page) -> Audience:
        """See `Audiences`. The user's shard alone answers."""
        request = sharding_pb2.FindItemsRequest(
            user_id=user_id, choice=write_choice(choice), page=write_page(page)
        )
        shard = shard_of(user_id, self._shards.count)
        answer = await self._shards.ask(shard, lambda stub: stub.FindItems(request))
        return read_answer(answer.answer, Subject(Direction.ITEMS_TO_USER, user_id)).audience

    async def users_like_user(
        self, user_id: str, choice: Choice, page: Page, *, reciprocal: bool
    ) -> Audience:
        """See `Audiences`."""
        question, request = self._shards.question(), _described(user_id)
        told = await question.all(lambda stub, _: stub.DescribeUser(request))
        own = told[shard_of(user_id, self._shards.count)]
        if not own.known:
            raise unknown_user(user_id)
        most = max(each.most_likes for each in told)
        taste = sharding_pb2.UserTaste(user_id=user_id, vector=own.taste, most_likes=most)
        subject = Subject(Direction.USERS_TO_USER, user_id)
        if reciprocal and any(own.taste):
            found = await self._matched(question, Users(user=taste), subject, choice, page)
        else:
            found = await self._users(question, Users(user=taste), subject, choice, page)
        return replace(found, warm=own.warm, subject_count=own.interaction_count)

    async def items_for_segment(
        self, user_ids: Sequence[str], segment_filter: str, choice: Choice, page: Page
    ) -> Audience:
        """See `Audiences`. Of a shard's members of a group more than MOST_ASKED are sampled."""
        question = self._shards.question()
        request = sharding_pb2.SumGroupRequest(
            user_ids=user_ids,
            filter="" if user_ids else segment_filter,
            page=write_page(page),
            include_interacted=choice.include_interacted,
        )
        sums = await self._group_sums(question, request)
        members = sum(part.member_count for part in sums)
        if not members and user_ids:
            raise NotFound("none of the users is known", reason="UNKNOWN_USER")
        if not members:
            raise FailedPrecondition("no user matches segment_filter", reason="EMPTY_SEGMENT")
        name = segment_filter or "\0".join(sorted(set(user_ids)))
        subject = Subject(Direction.ITEMS_TO_SEGMENT, blake2b(name.encode()).hexdigest()[:32])
        asked = sharding_pb2.FindGroupItemsRequest(
            item_table=sums[0].item_table,
            relevance=_means(sums).astype("<f4").tobytes(),
            group=subject.name,
            choice=write_choice(choice),
            page=write_page(page),
        )
        shard = shard_of(page.recommendation_id, self._shards.count)  # any: all know the items
        answer = await question.one(shard, lambda stub: stub.FindGroupItems(asked))
        return replace(
            read_answer(answer.answer, subject).audience,
            warm=any(part.warm for part in sums),
            subject_count=sum(part.interaction_count for part in sums),
            group_size=members,
        )

    async def _item_sum(self, question: Question, item_id: str) -> sharding_pb2.ItemSum:
        request = sharding_pb2.SumItemRequest(item_id=item_id)
        sums = [part.sum for part in await question.all(lambda stub, _: stub.SumItem(request))]
        vectors = np.array([each.vector for each in sums], np.float64)
        return sharding_pb2.ItemSum(
            vector=vectors.sum(axis=0).tolist(),
            member_count=sum(each.member_count for each in sums),
            interaction_count=sum(each.interaction_count for each in sums),
            like_count=sum(each.like_count for each in sums),
        )

    async def _users(
        self, question: Question, asked: Users, subject: Subject, choice: Choice, page: Page
    ) -> Audience:
        diversity = choice.diversity
        if diversity is None or diversity.strength == 0:
            parts = await _found(question, asked, subject, choice, page)
            return merged(parts, choice.count)
        # The front spreads, over the best of all shards without a spread.
        size = max(FIRST_POOL, POOL_GROWTH * (choice.count + 1))
        while True:
            plain = replace(choice, count=size, diversity=Diversity(diversity.attribute, 0.0))
            parts = await _found(question, asked, subject, plain, replace(page, after=None))
            answer = spread_out(parts, size, choice.count, page, diversity)
            if answer is not None:
                return answer
            size *= POOL_GROWTH

    async def _matched(
        self, question: Question, asked: Users, subject: Subject, choice: Choice, page: Page
    ) -> Audience:
        asked.choice.CopyFrom(write_choice(choice))
        asked.page.CopyFrom(write_page(page))
        async with AsyncExitStack() as stack:
            parts = [
                RemotePart(
                    await stack.enter_async_context(
                        question.conversation(shard, lambda stub, steps: stub.MatchUsers(steps))
                    ),
                    asked,
                    subject,
                )
                for shard in range(self._shards.count)
            ]
            return await match(parts, np.array(asked.user.vector, np.float32), choice, page)

    async def _measured(
        self, question: Question, asked: Users, subject: Subject, choice: Choice, page: Page
    ) -> Estimate:
        asked.choice.CopyFrom(write_choice(choice))
        asked.page.CopyFrom(write_page(page))
        request = sharding_pb2.MeasureUsersRequest(question=asked)

        async def measured(shard: int) -> list[sharding_pb2.MeasureUsersResponse]:
            stream = question.follow(shard, lambda stub: stub.MeasureUsers(request))
            return [part async for part in stream]

        answers = await together([measured(shard) for shard in range(self._shards.count)])
        return estimated(
            [
                (
                    read_answer(parts[0].facts, subject).audience,
                    np.concatenate([np.frombuffer(part.relevance, "<f4") for part in parts]),
                )
                for parts in answers
            ]
        )

    async def _group_sums(
        self, question: Question, request: sharding_pb2.SumGroupRequest
    ) -> list[Group]:
        for refresh in (False, True):
            request.refresh = refresh
            sums = await question.all(lambda stub, _: stub.SumGroup(request))
            if len({part.item_table for part in sums}) == 1:
                return sums
        raise Unavailable("the shards have read different items", reason=OTHER_ITEMS)


async def _found(
    question: Question, asked: Users, subject: Subject, choice: Choice, page: Page
) -> list[Found]:
    asked.choice.CopyFrom(write_choice(choice))
    asked.page.CopyFrom(write_page(page))

    def call(stub: Stub, _: int) -> Awaitable[sharding_pb2.FindUsersResponse]:
        return stub.FindUsers(asked)

    return [read_answer(part.answer, subject) for part in await question.all(call)]


def _means(sums: Sequence[Group]) -> Floats:
    """A group's mean interest in every item. Members who like nothing count only when all do."""
    warm = any(part.warm for part in sums)
    counted = [part for part in sums if part.member_count and part.warm == warm]
    totals = np.sum([np.frombuffer(part.totals, "<f8") for part in counted], axis=0)
    weights = np.sum([np.frombuffer(part.weights, "<f8") for part in counted], axis=0)
    return recommend.segment_means(totals, weights, np.ones(len(totals), np.bool_))


def _for_item(item_id: str) -> Subject:
    return Subject(Direction.USERS_TO_ITEM, item_id)


def _described(user_id: str) -> sharding_pb2.DescribeUserRequest:
    return sharding_pb2.DescribeUserRequest(user_id=user_id)
