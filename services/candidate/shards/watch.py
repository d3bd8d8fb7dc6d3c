"""Whether all shards answer and fit together: at start, and while the front serves."""

from collections.abc import Awaitable, Callable

from heliograph.candidate.v1alpha1 import sharding_pb2

from services.candidate.shards.client import Shards
from services.runtime import metrics
from services.runtime.errors import DomainError, FailedPrecondition
from services.runtime.logs import Logger
from services.runtime.settings import ConfigurationError

HEALTH = "heliograph.candidate.v1alpha1.ShardService"
"""The name under which the front's health says whether calls that need all shards are answered."""
TIMEOUT_S = 2.0


class ShardWatch:
    """Asks every shard who it is. What it finds is the front's health under HEALTH, and a metric;
    other calls of the front go on when a shard is missing, so its own health stays as it is."""

    def __init__(
        self, shards: Shards, report: Callable[[str, bool], Awaitable[None]], log: Logger
    ) -> None:
        self._shards = shards
        self._report = report
        self._log = log
        self._problem: str | None = ""
        self._serving = metrics.gauge(
            "candidate", "shards_serving", "", "Shards that answer and fit together."
        )

    async def begin(self) -> None:
        """The first look. Raises ConfigurationError when an address is that of another shard."""
        for error in await self._look():
            if isinstance(error, FailedPrecondition):
                raise ConfigurationError(f"HELIOGRAPH_CANDIDATE_SHARDS: {error.message}")

    async def look(self) -> None:
        """Another one."""
        await self._look()

    async def _look(self) -> list[DomainError]:
        question = self._shards.question()
        errors: list[DomainError] = []
        ready = True
        for shard in range(self._shards.count):
            try:
                found = await question.one(
                    shard, lambda stub: stub.GetShard(_WHO, timeout=TIMEOUT_S)
                )
            except DomainError as error:
                errors.append(error)
            else:
                ready = ready and found.ready
        if not errors and not ready:
            errors += await self._exchanged()
        self._serving.set(self._shards.count - len(errors))
        problem = "; ".join(error.message for error in errors) or None
        if problem != self._problem:
            self._problem = problem
            tell = self._log.info if problem is None else self._log.error
            tell("shards", serving=problem is None, problem=problem)
            await self._report(HEALTH, problem is None)
        return errors

    async def _exchanged(self) -> list[DomainError]:
        try:
            await self._shards.exchange()
        except DomainError as error:
            return [error]
        return []


_WHO = sharding_pb2.GetShardRequest()
