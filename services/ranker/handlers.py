"""The gRPC face of the ranker: messages in, engine calls, messages out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.ranker.v1alpha1 import ranker_pb2, ranker_pb2_grpc
from heliograph.type.v1alpha1 import notification_pb2, status_pb2

from services.ranker.erasure import Eraser
from services.ranker.exporting import Exporter
from services.ranker.features import HEADS, Head
from services.ranker.feed import FeedFollower
from services.ranker.following import Following
from services.ranker.inspection import Inspector
from services.ranker.promotion import Models
from services.ranker.ranking import Ranked, Ranker
from services.ranker.registry import Entry
from services.ranker.requests import RankRequest, moment, page_start, rank_request
from services.ranker.shadow_log import Compared
from services.ranker.shadowing import Shadowing
from services.runtime import metrics
from services.runtime.clock import Clock
from services.runtime.validation import rejection

DEFAULT_PAGE = 100


class RankHandler:
    """Answers Rank."""

    def __init__(self, clock: Clock, ranker: Ranker, following: Following) -> None:
        self._clock = clock
        self._ranker = ranker
        self._following = following
        self._ranked = metrics.counter(
            "ranker", "ranked_events", "", "Events by what became of them.", ["result"]
        )

    async def rank(self, request: ranker_pb2.RankRequest) -> ranker_pb2.RankResponse:
        """Scores of all events, in the order of the request."""
        asked = rank_request(request)
        if self._clock.simulation:
            await self._following.catch_up()
        ranked = await self._ranker.rank(asked.call, self._clock.now())
        response = _rank_response(asked, ranked, len(request.events))
        rejected = len(response.rejections)
        self._ranked.labels("scored").inc(len(request.events) - rejected)
        self._ranked.labels("rejected").inc(rejected)
        return response


def _rank_response(asked: RankRequest, ranked: Ranked, count: int) -> ranker_pb2.RankResponse:
    broken = np.isnan(ranked.scores).any(axis=1)
    scores = np.zeros((count, len(HEADS)), np.float32)
    scores[asked.positions[~broken]] = ranked.scores[~broken]
    unscored = [
        rejection(position, "NOT_FINITE", "the model gave no finite score for this event")
        for position in asked.positions[broken].tolist()
    ]
    rejections: list[status_pb2.Rejection] = sorted(
        [*asked.rejections, *unscored], key=lambda each: each.index
    )
    return ranker_pb2.RankResponse(
        rank_id=ranked.rank_id,
        heads=_heads(HEADS),
        scores=scores.ravel().tolist(),
        model_versions=ranked.model_versions,
        trained_heads=_heads(ranked.trained_heads),
        rejections=rejections,
    )


class RankerHandler(ranker_pb2_grpc.RankerServiceServicer):
    """All methods of RankerService."""

    def __init__(
        self,
        clock: Clock,
        rank: RankHandler,
        inspector: Inspector,
        exporter: Exporter,
        feed: FeedFollower,
        models: Models,
        shadowing: Shadowing,
        eraser: Eraser,
    ) -> None:
        self._clock = clock
        self._rank = rank
        self._inspector = inspector
        self._exporter = exporter
        self._feed = feed
        self._models = models
        self._shadowing = shadowing
        self._eraser = eraser

    async def Rank(self, request: ranker_pb2.RankRequest, context: Any) -> ranker_pb2.RankResponse:
        return await self._rank.rank(request)

    async def GetSnapshot(
        self, request: ranker_pb2.GetSnapshotRequest, context: Any
    ) -> ranker_pb2.GetSnapshotResponse:
        seen = await self._inspector.snapshot(request.rank_id, request.user_id)
        features = [
            ranker_pb2.Feature(
                name=name, shape=array.shape[1:] if name != "items" else array.shape,
                values=array.ravel().tolist(),
            )
            for name, array in seen.features.items()
        ]  # fmt: skip
        return ranker_pb2.GetSnapshotResponse(
            features=features,
            snapshot_time=_stamp(seen.time.timestamp()),
            model_version=seen.model_version,
        )

    async def ExportTrainingData(
        self, request: ranker_pb2.ExportTrainingDataRequest, context: Any
    ) -> AsyncIterator[ranker_pb2.ExportTrainingDataResponse]:
        start = moment(request.start_time, "start_time")
        end = moment(request.end_time, "end_time")
        chunks = self._exporter.export(start, end, self._feed.read_until)
        async for chunk, row_count in chunks:
            yield ranker_pb2.ExportTrainingDataResponse(chunk=chunk, row_count=row_count)

    async def ListModels(
        self, request: ranker_pb2.ListModelsRequest, context: Any
    ) -> ranker_pb2.ListModelsResponse:
        start, size = page_start(request.page_token), request.page_size or DEFAULT_PAGE
        entries = self._models.entries()
        compared = await self._shadowing.compared()
        return ranker_pb2.ListModelsResponse(
            models=[self._model(entry, compared) for entry in entries[start : start + size]],
            next_page_token=str(start + size) if start + size < len(entries) else "",
        )

    async def PromoteModel(
        self, request: ranker_pb2.PromoteModelRequest, context: Any
    ) -> ranker_pb2.PromoteModelResponse:
        now = self._clock.now()
        entry = await self._models.promote(request.version, request.request_id, now)
        compared = await self._shadowing.compared()
        return ranker_pb2.PromoteModelResponse(model=self._model(entry, compared))

    async def ShadowModel(
        self, request: ranker_pb2.ShadowModelRequest, context: Any
    ) -> ranker_pb2.ShadowModelResponse:
        now = self._clock.now()
        await self._shadowing.name(request.version, request.share, request.request_id, now)
        return ranker_pb2.ShadowModelResponse()

    async def EraseUser(
        self, request: ranker_pb2.EraseUserRequest, context: Any
    ) -> ranker_pb2.EraseUserResponse:
        removed = await self._eraser.erase(request.user_id)
        return ranker_pb2.EraseUserResponse(removed_count=removed)

    def _model(self, entry: Entry, compared: Sequence[Compared]) -> ranker_pb2.Model:
        manifest, shadow = entry.manifest, self._shadowing.shadow
        return ranker_pb2.Model(
            version=manifest.version,
            promoted=manifest.version == self._models.promoted,
            train_time=_stamp(entry.train_time.astimezone(UTC).timestamp()),
            trained_heads=_heads(manifest.trained_heads),
            card=entry.card(),
            sha256=manifest.sha256,
            shadow_share=shadow.share if shadow.version == manifest.version else 0,
            shadow_comparisons=[
                _comparison(each) for each in compared if each.version == manifest.version
            ],
        )


def _comparison(compared: Compared) -> ranker_pb2.ShadowComparison:
    sums = compared.sums
    events = max(sums.events, 1)
    return ranker_pb2.ShadowComparison(
        served_version=compared.served_version,
        head=notification_pb2.Head.Value(f"HEAD_{compared.head.name}"),
        event_count=sums.events,
        mean_served_score=sums.served / events,
        mean_shadow_score=sums.shadow / events,
        mean_absolute_difference=sums.difference / events,
        mean_rank_correlation=sums.correlation / sums.calls if sums.calls else None,
    )


@lru_cache(maxsize=256)
def _heads(heads: tuple[Head, ...]) -> list[notification_pb2.Head.ValueType]:
    return [notification_pb2.Head.Value(f"HEAD_{head.name}") for head in heads]


def _stamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp
