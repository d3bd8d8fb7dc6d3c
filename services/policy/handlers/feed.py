"""ReadFeed."""

from typing import Any

import grpc
from heliograph.policy.v1alpha1 import feed_pb2

from services.policy import feed_store
from services.runtime.database import Database

Context = grpc.aio.ServicerContext[Any, Any]


class FeedHandlers:
    """See the protos for what each call means."""

    database: Database

    async def ReadFeed(
        self, request: feed_pb2.ReadFeedRequest, context: Context
    ) -> feed_pb2.ReadFeedResponse:
        limit = request.limit or feed_store.DEFAULT_LIMIT
        page = await feed_store.read(self.database, request.cursor, limit)
        answer = feed_pb2.ReadFeedResponse(cursor=page.cursor, more=page.more)
        for entry in page.entries:
            answer.entries.add().MergeFromString(entry)
        return answer
