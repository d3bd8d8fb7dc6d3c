"""What the pacer is configured by: environment variables with the prefix HELIOGRAPH_PACER_."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ServiceSettings

AdapterName = Literal["inbox", "file"]


class PacerSettings(ServiceSettings):
    """Sizes, times and channels of the pacer."""

    model_config = SettingsConfigDict(env_prefix="HELIOGRAPH_PACER_")

    batch_slots: int = Field(default=500, ge=1, le=1000)
    """Slots leased at once."""
    batch_ready: int = Field(default=500, ge=1, le=1000)
    """Ready events leased at once."""
    batch_deliveries: int = Field(default=500, ge=1, le=1000)
    """Deliveries leased at once."""
    batch_arrivals: int = Field(default=1000, ge=1, le=1000)
    """Arrivals read at once."""
    events_per_user: int = Field(default=64, ge=1, le=512)
    """Most promising events of a pool that are ranked for one slot."""
    events_per_call: int = Field(default=4096, ge=512, le=16384)
    """Most events that are ranked in one call; a batch is cut accordingly."""
    bytes_per_call: int = Field(default=8 * 2**20, ge=2**20)
    """Most bytes of events in one call; below HELIOGRAPH_MAX_MESSAGE_BYTES."""
    calls_at_once: int = Field(default=2, ge=1, le=64)
    """Parts of one batch that are ranked and decided at the same time."""

    lease: timedelta = Field(
        default=timedelta(seconds=60), ge=timedelta(seconds=1), le=timedelta(minutes=10)
    )
    """How long a batch may take before another pacer takes it over."""
    shortest_pause: timedelta = Field(default=timedelta(milliseconds=20), gt=timedelta(0))
    """Pause of an idle loop at first; it doubles while there is nothing to do."""
    longest_pause: timedelta = Field(default=timedelta(milliseconds=500), gt=timedelta(0))
    """Longest pause of an idle loop."""
    longest_hold: timedelta = Field(default=timedelta(seconds=15), gt=timedelta(0))
    """Longest pause of a loop that is held because another service is down."""

    unknown_user_delay: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    """When the pool of a user whom policy doesn't know yet is looked at again, once."""
    rejected_delay: timedelta = Field(default=timedelta(minutes=15), gt=timedelta(0))
    """When a ready event that policy could not judge is offered again."""
    fallback_delay: timedelta = Field(default=timedelta(hours=6), gt=timedelta(0))
    """When a pool is looked at again if policy names no next slot."""

    push_adapter: AdapterName = "inbox"
    """Adapter that carries push notifications."""
    email_adapter: AdapterName = "file"
    """Adapter that carries e-mails."""
    in_app_adapter: AdapterName = "inbox"
    """Adapter that carries in-app messages."""
    file_path: Path | None = None
    """File that the `file` adapter appends to; unset: deliveries.jsonl in HELIOGRAPH_STATE_DIR."""
    file_remembered: int = Field(default=200_000, ge=1000)
    """Deliveries that the `file` adapter remembers, to write none of them twice."""

    attempts_at_most: int = Field(default=8, ge=1, le=100)
    """Attempts to hand over a delivery, after which it is dead."""
    retry_first: timedelta = Field(default=timedelta(seconds=5), gt=timedelta(0))
    """Pause after the first failed attempt; it doubles with each further one, jittered."""
    retry_throttled: timedelta = Field(default=timedelta(minutes=1), gt=timedelta(0))
    """The same when the channel asked to slow down, or when the words could not be made."""
    retry_longest: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0))
    """Longest pause between two attempts."""

    slot_days: int = Field(default=14, ge=1)
    """Days that closed slots and attempts are kept for explanations."""
    inbox_days: int = Field(default=90, ge=1)
    """Days that messages stay in the inbox."""
