"""Shadow versions: a share of the Rank calls is scored by another version too, for comparison.

It happens beside the answers, one run at a time; what comes faster than that is left out.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from structlog.typing import FilteringBoundLogger

from services.ranker.batching import Batcher, Rows
from services.ranker.comparison import Comparison, compared
from services.ranker.features.vocabulary import HEADS, Head
from services.ranker.loading import LoadedModels
from services.ranker.shadow_log import NO_SHADOW, Compared, Key, Shadow, ShadowLog
from services.runtime import metrics
from services.runtime.errors import AlreadyExists, DomainError, FieldError

MOST_WAITING = 16
"""Calls that wait to be scored by the shadow; further ones are left out."""
DIFFERENCES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True, slots=True)
class _Call:
    shadow: Shadow
    served_version: str
    rows: Rows
    scores: NDArray[np.float32]


class Shadowing:
    """Follows which version shadows, has it score, and keeps what came of it."""

    def __init__(
        self, loaded: LoadedModels, batcher: Batcher, log: ShadowLog, logger: FilteringBoundLogger
    ) -> None:
        """`batcher`: one of its own, so that no call waits behind a shadow's."""
        self._loaded = loaded
        self._batcher = batcher
        self._log = log
        self._logger = logger
        self._shadow = NO_SHADOW
        self._waiting: asyncio.Queue[_Call] = asyncio.Queue(MOST_WAITING)
        self._sums: dict[Key, Comparison] = {}
        self._calls = metrics.counter(
            "ranker", "shadow_calls", "", "Calls for the shadow by what became of them.", ["result"]
        )
        of = ["version", "served_version", "head"]
        self._scores = metrics.counter(
            "ranker", "shadow_scores", "", "Sums of scores by who gave them.", [*of, "by"]
        )
        self._events = metrics.counter("ranker", "shadow_events", "", "Events compared.", of)
        self._differences = metrics.histogram(
            "ranker", "shadow_difference", "", "A call's mean absolute difference of scores.", of,
            DIFFERENCES,
        )  # fmt: skip

    @property
    def shadow(self) -> Shadow:
        """The version that shadows now."""
        return self._shadow

    async def name(self, version: str, share: float, request_id: str, now: datetime) -> None:
        """Have a version shadow from now on, in place of any other; empty: none.

        A replay of the request id changes nothing. Raises as `LoadedModels.held`, and AlreadyExists
        when the id was used otherwise.
        """
        before = await self._log.named(request_id)
        if before is not None and before != (version, share):
            raise AlreadyExists(
                f"request id {request_id!r} named {before[0]!r} with a share of {before[1]}",
                reason="REQUEST_ID_REUSED",
                fields=[FieldError("request_id", "was used for another version or share")],
            )
        if before is None:
            async with self._loaded.held([version] if version else [], anew=True):
                await self._log.name(version, share, request_id, now)
            self._logger.info("shadow named", version=version, share=share)
        await self.follow()

    async def follow(self) -> None:
        """Have the version shadow that was named last, also by another replica; keep the sums."""
        found = await self._log.current()
        self._shadow = max(self._shadow, found, key=lambda each: each.seq)
        await self._store()

    async def compared(self) -> list[Compared]:
        """How versions compared, with the calls of other replicas up to a moment ago."""
        await self._store()
        return await self._log.compared()

    def offer(
        self, rank_id: str, served_version: str, rows: Rows, scores: NDArray[np.float32]
    ) -> None:
        """Take a call, or part of one, with the scores [N, heads] that are answered; at once."""
        if not len(scores) or not self._shadow.takes(rank_id):
            return
        try:
            self._waiting.put_nowait(_Call(self._shadow, served_version, rows, scores))
        except asyncio.QueueFull:
            self._calls.labels("dropped").inc()

    async def run(self) -> None:
        """Score what was taken, for ever."""
        while True:
            call = await self._waiting.get()
            try:
                await self._compare(call)
            except Exception as error:
                why = error.message if isinstance(error, DomainError) else repr(error)
                self._logger.warning("shadow can't score", version=call.shadow.version, why=why)
                self._calls.labels("failed").inc()
            else:
                self._calls.labels("scored").inc()

    async def _compare(self, call: _Call) -> None:
        version, served_version = call.shadow.version, call.served_version
        async with self._loaded.held([version, served_version]) as models:
            trained = [models[name].trained_heads for name in (version, served_version)]
            scores = await self._batcher.score(version, call.rows)
        heads = [head for head in HEADS if all(head in each for each in trained)]
        found = await asyncio.to_thread(compared, call.scores, scores, heads)
        for head, sums in found.items():
            self._add({(call.shadow, served_version, head): sums})
            self._tell(version, served_version, head, sums)

    def _add(self, sums: Mapping[Key, Comparison]) -> None:
        for key, each in sums.items():
            self._sums[key] = self._sums.get(key, Comparison()) + each

    def _tell(self, version: str, served_version: str, head: Head, sums: Comparison) -> None:
        labels = (version, served_version, head.name.lower())
        self._events.labels(*labels).inc(sums.events)
        self._scores.labels(*labels, "served").inc(sums.served)
        self._scores.labels(*labels, "shadow").inc(sums.shadow)
        if sums.events:
            self._differences.labels(*labels).observe(sums.difference / sums.events)

    async def _store(self) -> None:
        sums, self._sums = self._sums, {}
        if not sums:
            return
        try:
            await self._log.add(sums)
        except BaseException:
            self._add(sums)
            raise
