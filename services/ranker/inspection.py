"""Snapshots read back for people."""

from dataclasses import dataclass
from datetime import datetime

from services.ranker.catalogue import Catalogue
from services.ranker.features import Features, content_refs, resolve
from services.ranker.rank_log import RankLog
from services.ranker.snapshots import SnapshotError, decode_users
from services.runtime.errors import NotFound


@dataclass(frozen=True, slots=True)
class SeenFeatures:
    """The inputs of the model for one user: arrays [1, …], and `items` [I, 128]."""

    time: datetime
    model_version: str
    features: Features


class Inspector:
    """Finds what a Rank call used for a user."""

    def __init__(self, log: RankLog, catalogue: Catalogue) -> None:
        self._log = log
        self._catalogue = catalogue

    async def snapshot(self, rank_id: str, user_id: str) -> SeenFeatures:
        """Raises NotFound (UNKNOWN_RANK) when it never was or has been dropped."""
        kept = await self._log.snapshot(rank_id, user_id)
        if kept is None:
            raise NotFound(f"no snapshot of {user_id!r} under {rank_id!r}", reason="UNKNOWN_RANK")
        try:
            users = decode_users([kept.features])
        except SnapshotError as error:
            raise NotFound(str(error), reason="UNKNOWN_RANK") from error
        features = resolve(users, await self._catalogue.contents(content_refs(users)))
        return SeenFeatures(kept.time, kept.model_version, features)
