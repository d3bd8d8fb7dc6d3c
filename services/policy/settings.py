"""Settings of the policy service: environment variables with the prefix HELIOGRAPH_POLICY_."""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.policy.arms import ArmShares
from services.policy.batch import Caps
from services.policy.channel_bits import EMAIL, IN_APP, PUSH
from services.policy.choice import Exploration
from services.policy.contexts import SlotRule
from services.policy.controller import Gains
from services.policy.engagements import ReportLimits
from services.policy.preferences import QuietHours
from services.runtime.settings import ServiceSettings

DAY = timedelta(days=1)
LEAST_SHARE = 1e-6
"""Below it a propensity would be of no use, and its products would soon be 0."""


def _usable(share: float) -> float:
    if 0 < share < LEAST_SHARE:
        raise ValueError(f"must be 0 or at least {LEAST_SHARE:g}")
    return share


DrawnShare = Annotated[float, Field(ge=0, lt=1), AfterValidator(_usable)]


class PolicySettings(ServiceSettings):
    """Rules, exploration and control of a deployment; targets and objectives are set by RPC."""

    model_config = SettingsConfigDict(env_prefix="HELIOGRAPH_POLICY_")

    slot_hours: tuple[int, ...] = (9, 13, 19)
    """Local hours of the slots of recipients that name none, each 0–23."""
    slots_ahead: int = Field(default=3, ge=1, le=24)
    """How many coming slots a user context and a decision tell."""

    quiet_start_minute: int = Field(default=22 * 60, ge=0, lt=1440)
    """First quiet minute of the local day for recipients that set none."""
    quiet_end_minute: int = Field(default=8 * 60, ge=0, lt=1440)
    """First minute after the quiet hours; equal to the start: none."""
    cap_per_day: int = Field(default=3, ge=0)
    """Most non-critical sends to a user within 24 hours."""
    cap_push_per_day: int = Field(default=2, ge=0)
    """Most push notifications of these."""
    cap_email_per_day: int = Field(default=1, ge=0)
    """Most e-mails of these."""
    cap_in_app_per_day: int = Field(default=3, ge=0)
    """Most in-app messages of these."""
    gap_minutes: float = Field(default=180.0, ge=0)
    """Least minutes between two non-critical sends to a user."""
    paused_retry_minutes: float = Field(default=15.0, gt=0)
    """When a ready event that a stop switch holds back is tried again, in minutes."""

    arm_salt: str = Field(default="heliograph", min_length=1)
    """Salt of arms and draws; another one redraws them all."""
    random_send_share: DrawnShare = 0.005
    """Probability that a user's day is in the arm random_send."""
    greedy_send_share: DrawnShare = 0.0025
    """Probability of greedy_send."""
    greedy_no_send_share: DrawnShare = 0.0025
    """Probability of greedy_no_send."""
    threshold_explore_share: DrawnShare = 0.05
    """Share of the decisions near the threshold that toss a coin."""
    threshold_band: float = Field(default=0.1, ge=0, lt=1)
    """What near is: offers between the quantiles at (1 ± this) of the share sent."""
    event_swap_share: DrawnShare = 0.015
    """Share of the policy's sends that take one of the best few events at random."""
    event_swap_count: int = Field(default=3, ge=2)
    """How many the best few are."""

    tick_seconds: float = Field(default=300.0, gt=0)
    """Time between two steps of the controller."""
    default_threshold: float = Field(default=0.0, allow_inf_nan=False)
    """Utility from which cells without a target send."""
    utility_floor: float | None = Field(default=None, allow_inf_nan=False)
    """Utility below which no threshold falls, target or not; unset: none."""
    learning_rate: float = Field(default=1.0, gt=0)
    """Factor on everything the controller does."""
    proportional_gain: float = Field(default=8.0, ge=0)
    """Change of ln(share sent) for a lag of a day's target."""
    integral_gain: float = Field(default=4.0, ge=0)
    """Change of ln(share sent) for a lag of a day's target that lasts a day."""
    derivative_gain: float = Field(default=1.0, ge=0)
    """Change of ln(share sent) for a lag that grew by a day's target in one step."""
    offer_sample: int = Field(default=2000, ge=1)
    """Users of each cell whose offers one batch records."""

    report_future_minutes: float = Field(default=5.0, ge=0)
    """How far ahead of this service's clock the time of a report may be."""
    session_age_days: float = Field(default=400.0, gt=0)
    """Sessions that began longer ago are refused, and forgotten."""

    decision_retention: timedelta = Field(default=90 * DAY, ge=31 * DAY)
    """How long decisions, their deliveries, engagements and volume are kept, by the day of the
    slot: that long they can be explained and engagements be reported. More than the 30 days after
    which a slot is not decided any more. Days with a delivery that is still open stay."""
    event_retention: timedelta = Field(default=130 * DAY, ge=121 * DAY)
    """How long it is known that an event was decided. More than the 90 days that an event may live
    in candidate and the 30 days that a slot may lie back, together."""
    feed_retention: timedelta = Field(default=30 * DAY, ge=DAY)
    """How long the feed is kept: how long a reader may be away without missing anything. At least
    as long as HELIOGRAPH_RANKER_RETENTION, or the ranker takes what it missed for silence."""
    control_retention: timedelta = Field(default=14 * DAY, ge=8 * DAY)
    """How long offers and the controller's steps are kept. The controller looks 7 days back."""
    clean_every: timedelta = Field(default=timedelta(hours=6), gt=timedelta(0))
    """How often what is past its retention is dropped."""
    clean_batch: int = Field(default=5000, ge=1, le=100_000)
    """Rows that one transaction deletes where whole days can't be dropped."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        drawn = self.random_send_share + self.greedy_send_share + self.greedy_no_send_share
        if drawn >= 1:
            raise ValueError(
                "lower HELIOGRAPH_POLICY_RANDOM_SEND_SHARE, …_GREEDY_SEND_SHARE or "
                "…_GREEDY_NO_SEND_SHARE: together they must leave something to the policy"
            )
        if not self.slot_hours or not all(0 <= hour < 24 for hour in self.slot_hours):
            raise ValueError("HELIOGRAPH_POLICY_SLOT_HOURS: one or more hours, each 0–23")
        return self

    @property
    def slots(self) -> SlotRule:
        """Slots of recipients."""
        return SlotRule(self.slot_hours, self.slots_ahead)

    @property
    def quiet_hours(self) -> QuietHours:
        """Quiet hours of recipients that set none."""
        return QuietHours(self.quiet_start_minute, self.quiet_end_minute)

    @property
    def reports(self) -> ReportLimits:
        """Which times of reports are believed."""
        return ReportLimits(
            timedelta(minutes=self.report_future_minutes), timedelta(days=self.session_age_days)
        )

    @property
    def caps(self) -> Caps:
        """Caps and gap of all users."""
        per_channel = {
            PUSH: self.cap_push_per_day,
            EMAIL: self.cap_email_per_day,
            IN_APP: self.cap_in_app_per_day,
        }
        return Caps(self.cap_per_day, per_channel, self.gap_minutes * 60)

    @property
    def arms(self) -> ArmShares:
        """Probabilities of the arms."""
        return ArmShares(self.random_send_share, self.greedy_send_share, self.greedy_no_send_share)

    @property
    def exploration(self) -> Exploration:
        """Randomisation within the policy arm."""
        return Exploration(
            self.threshold_explore_share, self.event_swap_share, self.event_swap_count
        )

    @property
    def gains(self) -> Gains:
        """Of the controller."""
        return Gains(
            self.learning_rate, self.proportional_gain, self.integral_gain, self.derivative_gain
        )

    @property
    def tick(self) -> timedelta:
        """Time between two steps of the controller."""
        return timedelta(seconds=self.tick_seconds)
