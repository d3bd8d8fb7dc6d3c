"""Every number of the known world, and the altered worlds that models are also judged on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256

REVISION = 1
SLOTS_PER_DAY = 3
SLOT_HOURS = ((8, 9, 10), (13, 14, 15), (18, 19, 20))
"""Local hours of a user's three slots: one of each, drawn evenly. At least three hours apart."""
ANSWER_HOURS = 3
"""A send is answered, and brings people to the app, within this many hours: before the next."""
REMEMBERED_SLOTS = 6
"""Sends at older slots tire nobody any more."""
CHANNELS = 3
"""Push, e-mail, in-app, in this order in all per-channel numbers."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Probabilities are built from these; `logit` and `log` mark the scale where it isn't plain."""

    taste_rank: int = 12
    """Factors of the tastes."""
    taste_shrinkage: float = 0.12
    """Ridge penalty per rating in the fit of the tastes."""
    taste_sweeps: int = 12
    """Rounds of the fit."""
    bias_prior: float = 5.0
    """Ratings' worth of belief that a user, or an item, is an average one."""
    taste_limit: float = 3.0
    """Scores are cut there, in standard deviations."""
    blend: float = 0.2
    """Share of a user's taste that comes from a second real user, so that no two are the same."""
    warm_up_days: int = 28
    """Days of sessions before the first slot, of which features know."""
    joined_days: tuple[int, int] = (7, 180)
    """Users joined so many days before the first, evenly."""

    # The logging policy
    send_share: float = 0.5
    offers: int = 4
    """Candidates per slot, of which one is drawn evenly."""
    offer_shares: tuple[float, float] = (0.5, 0.25)
    """Of the collaborative and the popular source; the rest is random."""
    offer_taste: float = 1.5
    """How much the collaborative source goes by taste: weight of the score against Gumbel noise."""
    oldest_offer_h: float = 36.0
    """Candidates are 0 to so many hours old, evenly."""
    score_logit: float = -3.0
    """The collaborative source's score for an average taste."""
    score_noise: float = 0.7
    """What that score misses of the taste, in standard deviations."""
    popular_score: float = 0.1
    """The popular source's score of the most popular item."""

    # Opens and clicks
    open_logit: tuple[float, float, float] = (-1.9, -2.5, -1.6)
    taste_logit: float = 0.9
    """Per standard deviation of the taste score."""
    openness_sd: float = 0.5
    """Logit; users differ, over all channels."""
    channel_sd: float = 0.4
    """Logit; users differ, in each channel by itself."""
    stale_logit: float = 0.6
    """Loss by the oldest candidate; content is best when new."""
    rhythm_logit: float = 0.6
    """Times the log of the user's relative activity in that hour of the week."""
    rhythm_limits: tuple[float, float] = (0.2, 5.0)
    """The relative activity is cut there for that."""
    answer_mean_min: float = 35.0
    """Delay of an answer: exponential, cut at three hours."""
    dismiss_share: float = 0.06
    """Of unopened notifications of average taste; it shrinks with taste."""

    # Fatigue: sends of the last slots, each worth exp(-age / fatigue_h)
    fatigue_h: float = 20.0
    open_fatigue: float = 0.3
    """An open's probability is multiplied by exp(-this · fatigue)."""
    off_fatigue: float = 0.55
    """Hazards of disable and unsubscribe are multiplied by exp(this · fatigue)."""
    delete_fatigue: float = 0.45

    # Leaving
    push_disable: float = 0.008
    """Per unopened push of average taste to a rested user."""
    email_unsubscribe: float = 0.012
    dislike: float = 0.5
    """Per standard deviation of taste below average, on the log of both hazards."""
    delete_per_day: float = 0.0015
    delete_sd: float = 0.6
    """Log; users differ."""
    push_share: float = 0.85
    email_share: float = 0.65

    # Sessions
    sessions_per_day: float = 0.15
    """Of the median user, without any send."""
    session_sd: float = 0.9
    """Log; users differ."""
    nudge: tuple[float, float, float] = (1.2, 0.5, 0.1)
    """Sessions that a send adds within three hours, beside the open's own, relative to the user's
    sessions without it; fatigue lowers it as it lowers opens."""

    # Rhythm: two bumps a day over a floor, and a weekend's factor
    peak_hours: tuple[float, float] = (8.5, 20.0)
    peak_sd_h: float = 2.0
    """How far users' peaks lie from these."""
    peak_width_h: float = 2.5
    floor: float = 0.08
    weekend_sd: float = 0.5
    """Log of the activity on Saturday and Sunday against other days; users differ."""


WORLDS: Mapping[str, Parameters] = {
    "base": Parameters(),
    "tired": replace(Parameters(), fatigue_h=30.0, open_fatigue=0.55, off_fatigue=0.8),
    "flat": replace(Parameters(), taste_logit=0.35, dislike=0.2),
    "nocturnal": replace(Parameters(), peak_hours=(12.5, 23.5), peak_width_h=1.5, weekend_sd=0.9),
}
"""The base world, and ones for evaluation: stronger fatigue, flatter tastes, another rhythm."""


def parameters_hash(parameters: Parameters) -> str:
    """Names the numbers, and the rules they are used by: 16 hexadecimal digits of SHA-256.

    Change REVISION when the rules change.
    """
    fixed = [REVISION, SLOT_HOURS, ANSWER_HOURS, REMEMBERED_SLOTS]
    text = json.dumps([fixed, asdict(parameters)], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]
