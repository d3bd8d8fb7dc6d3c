"""The calls of a shard: thin, from protos to its index and back."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
from heliograph.candidate.v1alpha1 import sharding_pb2, sharding_pb2_grpc

from services.candidate.choosing import group_labels
from services.candidate.criteria import CriteriaReader
from services.candidate.generation import Generator
from services.candidate.handlers.generating import read_order, write_progress
from services.candidate.handlers.parts import Context
from services.candidate.index import IndexState
from services.candidate.index.prediction import Prediction
from services.candidate.index.share import Share
from services.candidate.item_ranking import rank_items
from services.candidate.questions import Audience, Choice, Found, Page
from services.candidate.shards.answering import ShardAudiences, Taste
from services.candidate.shards.conversion import (
    read_choice,
    read_new_item,
    read_numbers,
    read_page,
    read_sum,
    write_answer,
)
from services.candidate.shards.match_handler import answers
from services.candidate.shards.view import (
    ItemCounts,
    ShardIndex,
    item_table,
    require_table,
    told,
)
from services.candidate.sources.arrays import Rows
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound

PART = 1 << 20
"""Users of one part of a measurement: 4 MiB."""


class ShardHandler(sharding_pb2_grpc.ShardServiceServicer):
    """See the proto for what each call means."""

    def __init__(
        self,
        index: ShardIndex,
        share: Share,
        criteria: CriteriaReader,
        generator: Generator,
        clock: Clock,
    ) -> None:
        self._index = index
        self._share = share
        self._criteria = criteria
        self._generator = generator
        self._clock = clock

    async def GetShard(
        self, request: sharding_pb2.GetShardRequest, context: Context
    ) -> sharding_pb2.GetShardResponse:
        state = await self._index.fitted_own() if request.refresh else self._index.own
        return sharding_pb2.GetShardResponse(
            mark=self._mark(state),
            user_count=len(state.catalogue.user_ids),
            interaction_count=len(state.tables.interactions),
            ready=self._index.ready,
        )

    async def CountItems(
        self, request: sharding_pb2.CountItemsRequest, context: Context
    ) -> sharding_pb2.CountItemsResponse:
        state = await self._own(refresh=request.refresh)
        counts = sharding_pb2.ItemCounts(
            item_table=item_table(state),
            interactions=state.catalogue.item_counts.astype("<i4").tobytes(),
            likes=state.catalogue.item_likes.astype("<i4").tobytes(),
        )
        return sharding_pb2.CountItemsResponse(mark=self._mark(state), counts=counts)

    async def PutOtherCounts(
        self, request: sharding_pb2.PutOtherCountsRequest, context: Context
    ) -> sharding_pb2.PutOtherCountsResponse:
        others = request.others
        counts = ItemCounts(_counts(others.interactions), _counts(others.likes))
        self._index.put_others(others.item_table, counts)
        return sharding_pb2.PutOtherCountsResponse(mark=self._mark(self._index.own))

    async def SumItem(
        self, request: sharding_pb2.SumItemRequest, context: Context
    ) -> sharding_pb2.SumItemResponse:
        state = self._index.own
        if request.item_id not in state.catalogue.item_rows:
            state = await self._own(refresh=True)
        row = _live_item(state, request.item_id)
        prediction = _fitted(state)
        found = await asyncio.to_thread(prediction.item_sum, row)
        return sharding_pb2.SumItemResponse(
            mark=self._mark(state),
            sum=sharding_pb2.ItemSum(
                vector=found.vector,
                member_count=found.members,
                interaction_count=int(state.catalogue.item_counts[row]),
                like_count=int(state.catalogue.item_likes[row]),
            ),
        )

    async def FindUsers(
        self, request: sharding_pb2.FindUsersRequest, context: Context
    ) -> sharding_pb2.FindUsersResponse:
        state = self._index.state
        choice = read_choice(request.choice)
        audience = await self._users(state, request, choice, read_page(request.page))
        groups: list[str] = []
        if choice.diversity is not None:
            known = state.catalogue.user_rows
            rows: Rows = np.array([known[name] for name in audience.ids], np.int64)
            groups = group_labels(state.user_columns, choice.diversity.attribute, rows)
        answer = write_answer(Found(audience, groups))
        return sharding_pb2.FindUsersResponse(mark=self._mark(state), answer=answer)

    async def MeasureUsers(
        self, request: sharding_pb2.MeasureUsersRequest, context: Context
    ) -> AsyncIterator[sharding_pb2.MeasureUsersResponse]:
        state, question = self._index.state, request.question
        question.choice.parameters.count = max(1, len(state.catalogue.user_ids))
        question.choice.parameters.diversity = 0.0
        question.choice.count_omissions = True
        choice = read_choice(question.choice)
        audience = await self._users(state, question, choice, read_page(question.page))
        relevance = np.array(audience.relevance, "<f4")
        facts = write_answer(Found(audience))
        for name in ("ids", "scores", "relevance", "interaction_counts"):
            facts.ClearField(name)
        mark = self._mark(state)
        for start in range(0, max(len(relevance), 1), PART):
            part = relevance[start : start + PART].tobytes()
            yield sharding_pb2.MeasureUsersResponse(
                mark=mark, relevance=part, facts=facts if start == 0 else None
            )

    async def DescribeUser(
        self, request: sharding_pb2.DescribeUserRequest, context: Context
    ) -> sharding_pb2.DescribeUserResponse:
        state, user = self._index.own, request.user_id
        mine = bool(self._share.mask([user])[0])
        if mine and user not in state.catalogue.user_rows:
            state = await self._own(refresh=True)
        catalogue, row = state.catalogue, state.catalogue.user_rows.get(user)
        answer = sharding_pb2.DescribeUserResponse(
            mark=self._mark(state), most_likes=int(catalogue.user_likes.max(initial=0))
        )
        if row is not None:
            answer.known = True
            answer.taste.extend(state.prediction.user_tastes[row].tolist())
            answer.interaction_count = int(catalogue.user_counts[row])
            answer.warm = bool(catalogue.user_likes[row])
        return answer

    async def MatchUsers(
        self, requests: AsyncIterator[sharding_pb2.MatchUsersRequest], context: Context
    ) -> AsyncIterator[sharding_pb2.MatchUsersResponse]:
        state, question = self._index.own, await _first_question(requests)
        choice, page = read_choice(question.choice), read_page(question.page)
        taste = np.array(question.user.vector, np.float32)
        width = state.prediction.user_tastes.shape[1]
        if len(taste) != width:
            raise InvalidArgument(f"question.user.vector: tastes have {width} numbers")
        part = await self._of(state).match_part(question.user.user_id, taste, choice, page)
        mark = self._mark(state)
        async for answer in answers(part, width, requests):
            answer.mark.CopyFrom(mark)
            yield answer

    async def FindItems(
        self, request: sharding_pb2.FindItemsRequest, context: Context
    ) -> sharding_pb2.FindItemsResponse:
        state = self._index.state
        if request.user_id not in state.catalogue.user_rows:
            state = await self._index.refresh()
        audience = await self._of(state).items_for_user(
            request.user_id, read_choice(request.choice), read_page(request.page)
        )
        answer = write_answer(Found(audience))
        return sharding_pb2.FindItemsResponse(mark=self._mark(state), answer=answer)

    async def SumGroup(
        self, request: sharding_pb2.SumGroupRequest, context: Context
    ) -> sharding_pb2.SumGroupResponse:
        state = await self._index.refresh() if request.refresh else self._index.state
        known, own = state.catalogue.user_rows, self._share.mask(request.user_ids)
        mine = [name for name, is_own in zip(request.user_ids, own, strict=True) if is_own]
        if any(name not in known for name in mine):
            state = await self._index.refresh()
        sums = await self._of(state).group_sums(
            request.user_ids,
            request.filter,
            read_page(request.page),
            include_interacted=request.include_interacted,
        )
        return sharding_pb2.SumGroupResponse(
            mark=self._mark(state),
            item_table=item_table(state),
            member_count=sums.members,
            warm=sums.warm,
            interaction_count=sums.interactions,
            totals=sums.totals.astype("<f8").tobytes() if sums.members else b"",
            weights=sums.weights.astype("<f8").tobytes() if sums.members else b"",
        )

    async def FindGroupItems(
        self, request: sharding_pb2.FindGroupItemsRequest, context: Context
    ) -> sharding_pb2.FindGroupItemsResponse:
        state = self._index.state
        require_table(state, request.item_table)
        audience = await self._of(state).items_for_group(
            np.where(
                state.catalogue.item_live,
                np.frombuffer(request.relevance, "<f4"),
                np.float32(-np.inf),
            ),
            request.group,
            read_choice(request.choice),
            read_page(request.page),
        )
        answer = write_answer(Found(audience))
        return sharding_pb2.FindGroupItemsResponse(mark=self._mark(state), answer=answer)

    async def RankEventItems(
        self, request: sharding_pb2.RankEventItemsRequest, context: Context
    ) -> sharding_pb2.RankEventItemsResponse:
        state = self._index.state
        about = [(event.user_id, tuple(event.item_ids)) for event in request.events]
        ranked = await asyncio.to_thread(rank_items, state.catalogue, state.prediction, about)
        answer = sharding_pb2.RankEventItemsResponse(mark=self._mark(state))
        for (user, _), found in zip(about, ranked, strict=True):
            answer.events.add(user_id=user, item_ids=found.item_ids, score=found.score)
        return answer

    async def GenerateShard(
        self, request: sharding_pb2.GenerateShardRequest, context: Context
    ) -> AsyncIterator[sharding_pb2.GenerateShardResponse]:
        mark = self._mark(await self._index.fitted())
        order = read_order(request.order, self._clock.now().date())
        async for progress in self._generator.run(order):
            yield sharding_pb2.GenerateShardResponse(mark=mark, progress=write_progress(progress))

    def _of(self, state: IndexState) -> ShardAudiences:
        return ShardAudiences(state, self._criteria)

    async def _own(self, *, refresh: bool) -> IndexState:
        return await self._index.refresh_own() if refresh else self._index.own

    def _mark(self, state: IndexState) -> sharding_pb2.ShardMark:
        model = _fitted(state).part.version
        return sharding_pb2.ShardMark(
            shard=self._share.shard, shard_count=self._share.count, model=model
        )

    async def _users(
        self,
        state: IndexState,
        request: sharding_pb2.FindUsersRequest,
        choice: Choice,
        page: Page,
    ) -> Audience:
        kind = request.WhichOneof("subject")
        if kind == "stored_item":
            name = request.stored_item.item_id
            found = read_sum(request.stored_item.sum)
            view = told(state, _live_item(state, name), found)
            return await self._of(view).users_for_item(name, choice, page)
        if kind == "unstored_item":
            item = read_new_item(request.unstored_item)
            return await self._of(state).users_for_new_item(item, choice, page)
        user = request.user
        taste = Taste(user.user_id, np.array(user.vector, np.float32), user.most_likes)
        return await self._of(state).users_alike(taste, choice, page)


async def _first_question(
    steps: AsyncIterator[sharding_pb2.MatchUsersRequest],
) -> sharding_pb2.FindUsersRequest:
    async for step in steps:
        if step.question.HasField("user"):
            return step.question
        break
    raise InvalidArgument("question about a user is the first step")


def _live_item(state: IndexState, name: str) -> int:
    row = state.catalogue.item_rows.get(name)
    if row is None:
        raise NotFound(f"item {name!r} is unknown", reason="UNKNOWN_ITEM")
    if not state.catalogue.item_live[row]:
        raise FailedPrecondition(f"item {name!r} is deleted", reason="ITEM_DELETED")
    return row


def _fitted(state: IndexState) -> Prediction:
    assert isinstance(state.prediction, Prediction)
    return state.prediction


def _counts(content: bytes) -> Rows:
    return read_numbers(content, "<i4").astype(np.int64)
