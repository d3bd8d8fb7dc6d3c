"""Which model serves: promotion, and versions that experiments ask for."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from structlog.typing import FilteringBoundLogger

from services.ranker.backend import ModelRefused
from services.ranker.loading import LoadedModels, Served
from services.ranker.rank_log import RankLog
from services.ranker.registry import Entry, Registry
from services.ranker.rehearsal import Rehearsal
from services.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    FieldError,
    NotFound,
    Unavailable,
)


class Models:
    """Knows the version that serves. The promoted one is stored; before the first promotion the
    newest version that can be loaded serves."""

    def __init__(
        self,
        registry: Registry,
        loaded: LoadedModels,
        rehearsal: Rehearsal,
        log: RankLog,
        logger: FilteringBoundLogger,
    ) -> None:
        self._registry = registry
        self._loaded = loaded
        self._rehearsal = rehearsal
        self._log = log
        self._logger = logger
        self._promoted: str | None = None
        self._unreached = False
        """No version serves yet because the backend couldn't be reached."""
        self._switching = asyncio.Lock()
        """So that what was promoted before doesn't come back behind what is promoted now."""

    @property
    def promoted(self) -> str | None:
        """The version that serves all traffic no experiment sends elsewhere."""
        return self._promoted

    def entries(self) -> list[Entry]:
        """All versions, newest first."""
        return self._registry.entries()

    async def follow(self) -> None:
        """Serve what is promoted now, also by another replica; keep the old one if that fails.

        Where the backend can't be reached, calls try again and say so. What is idle is unloaded.
        """
        if self._switching.locked():
            return  # a promotion is under way here
        async with self._switching:
            wanted = await self._log.promoted_version()
            try:
                await self._serve(wanted)
            except Unavailable as error:
                self._logger.warning("models can't be reached", version=wanted, why=error.message)
                self._promoted = self._promoted or wanted
        for version in await self._loaded.unload_idle([self._promoted or ""]):
            self._logger.info("model unloaded", version=version)

    @asynccontextmanager
    async def held(self, versions: Sequence[str]) -> AsyncIterator[list[Served]]:
        """Each version ready to score, until the context ends; empty means the promoted one.

        Raises NotFound (UNKNOWN_MODEL), FailedPrecondition (MODEL_REFUSED, NO_MODEL), and
        Unavailable where the backend can't be reached.
        """
        if self._promoted is None and self._unreached and not all(versions):
            await self._serve_newest()
        names = [version or self._promoted for version in versions]
        known = [name for name in names if name is not None]
        if len(known) < len(names):
            raise FailedPrecondition("the registry has no model that can serve", reason="NO_MODEL")
        async with self._loaded.held(known) as served:
            yield [served[name] for name in known]

    async def promote(self, version: str, request_id: str, now: datetime) -> Entry:
        """Load, check, rehearse, store and switch; the old version serves until then, and goes on
        when this fails.

        A replay of the request id answers as the first call. Raises as `held`, and AlreadyExists
        when the id was used for another version.
        """
        async with self._switching:
            before = await self._log.promotion(request_id)
            if before is not None and before != version:
                raise AlreadyExists(
                    f"request id {request_id!r} promoted {before!r}",
                    reason="REQUEST_ID_REUSED",
                    fields=[FieldError("request_id", "was used for another version")],
                )
            if before is None:
                await self._rehearse(version, anew=True)
                await self._log.promote(version, request_id, now)
                self._promoted = version
                self._logger.info("model promoted", version=version)
        return self._loaded.entry(version)

    async def _serve(self, wanted: str | None) -> None:
        if wanted is None and self._promoted is None:
            await self._serve_newest()
        elif wanted is not None and (wanted != self._promoted or wanted not in self._loaded):
            try:
                if self._promoted in self._loaded:
                    await self._rehearse(wanted)
                else:
                    await self._load(wanted)
                self._promoted = wanted
            except (NotFound, FailedPrecondition) as error:
                self._logger.error("promoted model not served", version=wanted, why=error.message)
                if self._promoted not in self._loaded:
                    await self._serve_newest()

    async def _serve_newest(self) -> None:
        for entry in self._registry.entries():
            try:
                await self._load(entry.manifest.version)
                self._promoted = entry.manifest.version
                break
            except FailedPrecondition as error:
                self._logger.warning("model refused", why=error.message)
            except Unavailable:
                self._unreached = True
                raise
        self._unreached = False

    async def _load(self, version: str) -> None:
        async with self._loaded.held([version]):
            pass

    async def _rehearse(self, version: str, *, anew: bool = False) -> None:
        """See that it scores requests of late. Raises as `held`."""
        async with self._loaded.held([version], anew=anew):
            try:
                runs = await self._rehearsal.run(version)
            except ModelRefused as error:
                raise FailedPrecondition(str(error), reason="MODEL_REFUSED") from error
        self._logger.info("model rehearsed", version=version, runs=runs)
