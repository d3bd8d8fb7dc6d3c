"""What copygen is configured by."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ServiceSettings


class CopygenSettings(ServiceSettings):
    """Settings with the prefix HELIOGRAPH_COPYGEN_."""

    model_config = SettingsConfigDict(env_prefix="HELIOGRAPH_COPYGEN_")

    template_share: float = Field(default=0.2, gt=0, le=1)
    """Least share of deliveries that the plain template keeps beside live variants."""
    draw_salt: str = "copy-1"
    """Salt of the draw between variants; changing it draws anew for new deliveries."""
    follow_every: timedelta = Field(default=timedelta(seconds=2), gt=timedelta(0))
    """How often items, event types and the feed are read on."""
    retention: timedelta = Field(default=timedelta(days=90), ge=timedelta(days=37))
    """How long the words of deliveries and what came of them are kept, by the day of the delivery's
    id. More than the 35 days for which a delivery may ask for its words again; as long as
    HELIOGRAPH_POLICY_DECISION_RETENTION, so that explanations show them."""
    clean_every: timedelta = Field(default=timedelta(hours=6), gt=timedelta(0))
    """How often days past their retention are dropped."""
