"""Which versions are loaded: from when they are first asked for until nobody asks any more."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from services.ranker.acceptance import accept
from services.ranker.backend import Backend, ModelRefused
from services.ranker.features.vocabulary import Head
from services.ranker.manifest import ManifestError
from services.ranker.registry import Entry, Registry
from services.runtime.errors import FailedPrecondition, NotFound

REFUSED_S = 10.0
"""So long a refusal holds for calls, which would wait for each other's tries otherwise."""


@dataclass(frozen=True, slots=True)
class Served:
    """A version that is loaded."""

    version: str
    trained_heads: tuple[Head, ...]


@dataclass(slots=True)
class _Loaded:
    served: Served
    holders: int = 0
    """Who may still have it score."""
    asked: float = 0.0
    """When it was last held, on the monotonic clock."""


class LoadedModels:
    """Loads versions of the registry, each once, and unloads those that are idle."""

    def __init__(self, registry: Registry, backend: Backend, idle: timedelta) -> None:
        """`idle`: how long a version stays loaded that nobody asks for."""
        self._registry = registry
        self._backend = backend
        self._idle = idle
        self._loaded: dict[str, _Loaded] = {}
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Of each version of the registry that was ever loaded: one load or unload at a time."""
        self._refused: dict[str, tuple[str, float]] = {}
        """Why a version was refused last, and how long that holds, on the monotonic clock."""

    def __contains__(self, version: object) -> bool:
        return version in self._loaded

    def entry(self, version: str) -> Entry:
        """A version of the registry. Raises NotFound (UNKNOWN_MODEL) and FailedPrecondition
        (MODEL_REFUSED)."""
        try:
            return self._registry.entry(version)
        except KeyError:
            raise NotFound(
                f"no model version {version!r} in the registry", reason="UNKNOWN_MODEL"
            ) from None
        except ManifestError as error:
            raise FailedPrecondition(str(error), reason="MODEL_REFUSED") from error

    @asynccontextmanager
    async def held(
        self, versions: Iterable[str], *, anew: bool = False
    ) -> AsyncIterator[Mapping[str, Served]]:
        """Versions ready to score, which stay loaded meanwhile. What was refused a moment ago is
        only tried `anew`.

        Raises NotFound (UNKNOWN_MODEL), FailedPrecondition (MODEL_REFUSED), and Unavailable where
        the backend can't be reached.
        """
        held: dict[str, _Loaded] = {}
        try:
            for version in set(versions):
                held[version] = loaded = await self._ready(version, anew)
                loaded.holders += 1
            yield {version: loaded.served for version, loaded in held.items()}
        finally:
            for loaded in held.values():
                loaded.holders -= 1
                loaded.asked = time.monotonic()

    async def unload_idle(self, keep: Collection[str]) -> list[str]:
        """Unload what nobody holds or has held of late, but for some; gives the versions."""
        unloaded = []
        for version in [each for each in self._loaded if each not in keep]:
            async with self._changing[version]:
                if version in self._loaded and self._idles(version):
                    del self._loaded[version]
                    await self._backend.unload(version, self._idle)
                    unloaded.append(version)
        return unloaded

    def _idles(self, version: str) -> bool:
        loaded = self._loaded[version]
        return not loaded.holders and time.monotonic() - loaded.asked >= self._idle.total_seconds()

    async def _ready(self, version: str, anew: bool) -> _Loaded:
        if version not in self._loaded:
            entry = self.entry(version)
            async with self._changing[version]:
                if version not in self._loaded:
                    await self._accept(entry, anew)
                    served = Served(version, entry.manifest.trained_heads)
                    self._loaded[version] = _Loaded(served)
        return self._loaded[version]

    async def _accept(self, entry: Entry, anew: bool) -> None:
        version = entry.manifest.version
        why, until = self._refused.get(version, ("", 0.0))
        if time.monotonic() < until and not anew:
            raise FailedPrecondition(why, reason="MODEL_REFUSED")
        try:
            await accept(self._backend, entry.manifest, entry.folder)
        except ModelRefused as error:
            self._refused[version] = str(error), time.monotonic() + REFUSED_S
            raise FailedPrecondition(str(error), reason="MODEL_REFUSED") from error
