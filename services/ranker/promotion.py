"""Which model serves: promotion, and versions that experiments ask for."""

from dataclasses import dataclass
from datetime import datetime

from structlog.typing import FilteringBoundLogger

from services.ranker.acceptance import accept
from services.ranker.backend import Backend, ModelRefused
from services.ranker.features.vocabulary import Head
from services.ranker.manifest import ManifestError
from services.ranker.rank_log import RankLog
from services.ranker.registry import Entry, Registry
from services.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    FieldError,
    NotFound,
    Unavailable,
)


@dataclass(frozen=True, slots=True)
class Served:
    """A version that is loaded."""

    version: str
    trained_heads: tuple[Head, ...]


class Models:
    """Loads versions when first asked for. The promoted one is stored; before the first promotion
    the newest version that can be loaded serves."""

    def __init__(
        self, registry: Registry, backend: Backend, log: RankLog, logger: FilteringBoundLogger
    ) -> None:
        self._registry = registry
        self._backend = backend
        self._log = log
        self._logger = logger
        self._served: dict[str, Served] = {}
        self._promoted: str | None = None
        self._unreached = False
        """No version serves yet because the backend couldn't be reached."""

    @property
    def promoted(self) -> str | None:
        """The version that serves all traffic no experiment sends elsewhere."""
        return self._promoted

    def entries(self) -> list[Entry]:
        """All versions, newest first."""
        return self._registry.entries()

    async def follow(self) -> None:
        """Serve what is promoted now, also by another replica; keep the old one if that fails.

        Where the backend can't be reached, calls try again and say so.
        """
        wanted = await self._log.promoted_version()
        try:
            await self._serve(wanted)
        except Unavailable as error:
            self._logger.warning("models can't be reached", version=wanted, why=error.message)
            self._promoted = self._promoted or wanted

    async def get(self, version: str) -> Served:
        """A version ready to score; empty means the promoted one.

        Raises NotFound (UNKNOWN_MODEL), FailedPrecondition (MODEL_REFUSED, NO_MODEL), and
        Unavailable where the backend can't be reached.
        """
        if not version and self._promoted is None and self._unreached:
            await self._serve_newest()
        name = version or self._promoted
        if name is None:
            raise FailedPrecondition("the registry has no model that can serve", reason="NO_MODEL")
        if name not in self._served:
            self._served[name] = await self._load(name)
        return self._served[name]

    async def promote(self, version: str, request_id: str, now: datetime) -> Entry:
        """Load, check, store and switch; the old version keeps serving when this fails.

        A replay of the request id answers as the first call. Raises as `get`, and AlreadyExists
        when the id was used for another version.
        """
        before = await self._log.promotion(request_id)
        if before is not None and before != version:
            raise AlreadyExists(
                f"request id {request_id!r} promoted {before!r}",
                reason="REQUEST_ID_REUSED",
                fields=[FieldError("request_id", "was used for another version")],
            )
        await self.get(version)
        if before is None:
            await self._log.promote(version, request_id, now)
            self._promoted = version
            self._logger.info("model promoted", version=version)
        return self._registry.entry(version)

    async def _serve(self, wanted: str | None) -> None:
        if wanted is None and self._promoted is None:
            await self._serve_newest()
        elif wanted is not None and (wanted != self._promoted or wanted not in self._served):
            try:
                await self.get(wanted)
                self._promoted = wanted
            except (NotFound, FailedPrecondition) as error:
                self._logger.error("promoted model not served", version=wanted, why=error.message)
                if self._promoted not in self._served:
                    await self._serve_newest()

    async def _serve_newest(self) -> None:
        for entry in self._registry.entries():
            try:
                self._promoted = (await self.get(entry.manifest.version)).version
                break
            except FailedPrecondition as error:
                self._logger.warning("model refused", why=error.message)
            except Unavailable:
                self._unreached = True
                raise
        self._unreached = False

    async def _load(self, name: str) -> Served:
        try:
            entry = self._registry.entry(name)
            await accept(self._backend, entry.manifest, entry.folder)
        except KeyError:
            raise NotFound(
                f"no model version {name!r} in the registry", reason="UNKNOWN_MODEL"
            ) from None
        except (ManifestError, ModelRefused) as error:
            raise FailedPrecondition(str(error), reason="MODEL_REFUSED") from error
        return Served(name, entry.manifest.trained_heads)
