"""Settings of candidate."""

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ServiceSettings

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


class CandidateSettings(ServiceSettings):
    """What candidate is configured by: environment variables HELIOGRAPH_CANDIDATE_…; durations in
    seconds or ISO 8601."""

    model_config = SettingsConfigDict(
        **{**ServiceSettings.model_config, "env_prefix": "HELIOGRAPH_CANDIDATE_"}
    )

    generated_event_type: str = Field(default="item.suggestion", pattern=r"^[a-z][a-z0-9_.-]*$")
    """Type of the events that GenerateDaily makes. It has to be registered with PutEventType before
    the first run, with the ranked route; GenerateDaily answers FAILED_PRECONDITION until then."""
    pool_size: int = Field(default=200, ge=1, le=512)
    """Waiting events a user's pool holds, held digests included; beyond it leave what has expired,
    then the least promising (`source_score`), then the soonest to expire."""
    repeat_horizon: timedelta = Field(default=30 * DAY, gt=timedelta(0))
    """For how long after it was accepted an event keeps GenerateDaily from proposing one of its
    items to the same user again."""
    retention: timedelta = Field(default=90 * DAY, gt=timedelta(0))
    """How long an ended event is kept after its end: the horizon in which its id is known."""
    arrival_retention: timedelta = Field(default=7 * DAY, gt=timedelta(0))
    """How long ReadArrivals can look back."""
    recommendation_retention: timedelta = Field(default=30 * DAY, ge=30 * DAY)
    """How long the answers of recommendations are kept under their ids; at least as long as
    rotation can look back."""
    clock_tolerance: timedelta = Field(default=300 * SECOND, ge=timedelta(0))
    """How far in the future a publisher's create_time or interact_time may lie."""
    expiry_interval: timedelta = Field(default=60 * SECOND, gt=timedelta(0))
    """How often passed expiries are recorded; readers leave expired events out at once."""
    digest_interval: timedelta = Field(default=30 * SECOND, gt=timedelta(0))
    """How often users whose digests got ready are announced to the pacer."""
    cleanup_interval: timedelta = Field(default=6 * 3600 * SECOND, gt=timedelta(0))
    """How often rows beyond their retention are deleted."""
    cleanup_batch: int = Field(default=5000, ge=1, le=100_000)
    """Rows that one transaction of the expiry and cleanup tasks touches."""
    refresh_interval: timedelta = Field(default=60 * SECOND, gt=timedelta(0))
    """How often the user index looks for changed users, items and interactions."""
    text_threads: int = Field(default=1, ge=1)
    """Cores that the text model may use."""
    embed_interval: timedelta = Field(default=5 * SECOND, gt=timedelta(0))
    """How often items without a vector of their text are looked for, on the wall clock."""
    embed_batch: int = Field(default=256, ge=1, le=100_000)
    """Items that get a vector in one turn."""
    watch_interval: timedelta = Field(default=SECOND, gt=timedelta(0))
    """How often a following WatchItems stream looks for changes, on the wall clock."""
    fresh_window: timedelta = Field(default=14 * DAY, gt=timedelta(0))
    """How long after its creation an item is fresh."""
    friend_window: timedelta = Field(default=7 * DAY, gt=timedelta(0))
    """For how long a friend's interaction with an item makes it a candidate."""
    least_availability: float = Field(default=0.02, ge=0, lt=1)
    """GenerateDaily skips a source for users as active as those of whom it is expected, at an
    optimistic estimate, to have something for less than this share; 0: never."""
    exploration_share: float = Field(default=0.03, ge=0, le=1)
    """Share of users for whom no source is skipped, others each day; by them it is noticed when a
    source has more again, and estimated what skipping loses."""
    availability_half_life: timedelta = Field(default=2 * DAY, ge=DAY)
    """After what time a run's counts have half their weight in what is expected of a source."""
    generate_chunk: int = Field(default=250, ge=1, le=10_000)
    """Users that GenerateDaily handles, and commits, at a time."""
    model_folder: Path | None = None
    """Folder of `heliograph candidate fit` to serve; looked at every `refresh_interval`. Unset, or
    as long as it holds no good model: the index fits one itself."""
    refit_interval: timedelta = Field(default=DAY, gt=timedelta(0))
    """How old the model of collaborative filtering may become while there are new interactions. One
    whose interactions have grown by a fifth is fitted anew whatever its age."""
    fit_seed: int = Field(default=0, ge=0)
    """Seed of the fit."""
    fit_threads: int = Field(default=1, ge=0)
    """Threads of the fit's linear algebra; 0: all cores."""
    shard: int | None = Field(default=None, ge=0)
    """Be this shard of the user index, from 0, rather than the service: answer the front's calls
    alone. `python -m services.candidate --shard 0 --of 4` sets it."""
    shard_count: int = Field(default=1, ge=1, le=1024)
    """How many shards there are, of which `shard` is one."""
    shards: str = ""
    """Addresses of all shards in their order, `host:port,host:port,…`: be the front, which holds
    no user index, asks the shards and merges their answers. Empty: one index in this process."""
    shard_check_interval: timedelta = Field(default=5 * SECOND, gt=timedelta(0))
    """How often the front looks whether all shards answer, on the wall clock."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.repeat_horizon > self.retention:
            raise ValueError(
                "HELIOGRAPH_CANDIDATE_REPEAT_HORIZON must not exceed "
                "HELIOGRAPH_CANDIDATE_RETENTION: deleted events block nothing"
            )
        if self.shard is not None and self.shards:
            raise ValueError(
                "set HELIOGRAPH_CANDIDATE_SHARD for a shard or HELIOGRAPH_CANDIDATE_SHARDS for the "
                "front, not both"
            )
        if self.shard is not None and self.shard >= self.shard_count:
            raise ValueError(
                f"HELIOGRAPH_CANDIDATE_SHARD={self.shard} must be below "
                f"HELIOGRAPH_CANDIDATE_SHARD_COUNT={self.shard_count}"
            )
        if self.shard is not None and self.model_folder is None:
            raise ValueError(
                "a shard needs HELIOGRAPH_CANDIDATE_MODEL_FOLDER: all shards serve one model, made "
                "by `heliograph candidate fit` of all interactions"
            )
        return self

    @property
    def shard_addresses(self) -> tuple[str, ...]:
        """Of the shards, in their order."""
        return tuple(address.strip() for address in self.shards.split(",") if address.strip())
