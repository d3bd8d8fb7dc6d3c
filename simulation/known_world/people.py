"""The users of the known world: what they are like, drawn for a block of them at once."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from simulation.known_world.parameters import CHANNELS, SLOT_HOURS, SLOTS_PER_DAY, Parameters
from simulation.known_world.tastes import Tastes
from simulation.movielens import MovieLens
from simulation.world import DAY_S, DEFAULT_START

START = DEFAULT_START
"""Local midnight of the first day lies within a day of it."""
TRAILING_DAYS = 3
"""Days that are played after the last logged one, so that every label's window closes."""

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class People:
    """U users and their slots: n of them, one after the other in time."""

    taste: Array
    """Scores [U, items] in standard deviations."""
    openness: Array
    """Logit per channel [U, 3], on top of the world's."""
    hourly: Array
    """Expected sessions without sends, by UTC hour [U, hours] from `first_hour` on."""
    relative: Array
    """Activity at each slot's hour relative to the user's mean hour [U, n]."""
    delete_per_day: Array
    """Hazard of the app's removal of a rested user [U]."""
    push: NDArray[np.bool_]
    email: NDArray[np.bool_]
    """Channels that are on at the start [U]; in-app always is."""
    time_zone: list[str]
    joined: Ints
    """Seconds since 1970 [U]."""
    slots: Ints
    """Times [U, n + 1], seconds since 1970, all full UTC hours; the last one only ends the last
    interval."""
    first_hour: int
    """UTC hour, in hours since 1970, of the first column of `hourly`."""


def draw(
    count: int,
    days: int,
    data: MovieLens,
    tastes: Tastes,
    parameters: Parameters,
    random: np.random.Generator,
) -> People:
    """People for `days` logged days and the trailing ones."""
    real = random.integers(len(data.users), size=(count, 2))
    zones = [data.users[row].time_zone for row in real[:, 0].tolist()]
    offset = np.array([seconds_ahead(zone) for zone in zones], np.int64)
    slots = _slots(offset, days + TRAILING_DAYS, random)
    first_hour = int(START.timestamp()) // 3600 - parameters.warm_up_days * 24
    played_days = parameters.warm_up_days + days + TRAILING_DAYS + 2
    hours = np.arange(first_hour, first_hour + played_days * 24)
    rhythm = draw_rhythm(count, parameters, random)
    local = (hours * 3600 + offset[:, None]) // 3600
    relative = np.take_along_axis(rhythm, hour_of_week(local), axis=1)
    rate = parameters.sessions_per_day * np.exp(random.normal(0, parameters.session_sd, count))
    joined = random.integers(*parameters.joined_days, count)
    started = START.timestamp() - joined * DAY_S
    here = hours * 3600 >= started[:, None]
    at_slot = np.take_along_axis(relative, slots[:, :-1] // 3600 - first_hour, axis=1)
    openness = random.normal(0, parameters.openness_sd, (count, 1))
    return People(
        taste=tastes.scores(blended(tastes.users, real, parameters.blend)),
        openness=openness + random.normal(0, parameters.channel_sd, (count, CHANNELS)),
        hourly=relative * rate[:, None] / 24 * here,
        relative=at_slot,
        delete_per_day=parameters.delete_per_day
        * np.exp(random.normal(0, parameters.delete_sd, count)),
        push=random.random(count) < parameters.push_share,
        email=random.random(count) < parameters.email_share,
        time_zone=zones,
        joined=started.astype(np.int64),
        slots=slots,
        first_hour=first_hour,
    )


def blended(users: Array, pairs: Ints, share: float) -> Array:
    """Factors [U, …] between two real users each, by position [U, 2]; mean and covariance stay."""
    mean = users.mean(axis=0)
    apart = users - mean
    mixed: Array = mean + (1 - share) ** 0.5 * apart[pairs[:, 0]] + share**0.5 * apart[pairs[:, 1]]
    return mixed


def seconds_ahead(zone: str) -> int:
    """Seconds ahead of UTC at the start; the world keeps them (no summer time)."""
    ahead = datetime.fromtimestamp(START.timestamp(), ZoneInfo(zone)).utcoffset()
    return int(ahead.total_seconds()) if ahead else 0


def _slots(offset: Ints, days: int, random: np.random.Generator) -> Ints:
    """One hour of each of SLOT_HOURS for each user, the same every day."""
    hours = np.array(SLOT_HOURS)
    choice = random.integers(hours.shape[1], size=(len(offset), SLOTS_PER_DAY))
    first = hours[np.arange(SLOTS_PER_DAY), choice] * 3600 - offset[:, None]
    begin = int(START.timestamp()) + np.arange(days + 1) * DAY_S
    moments = begin[None, :, None] + first[:, None, :]
    whole = moments.reshape(len(offset), -1)[:, : days * SLOTS_PER_DAY + 1]
    found: Ints = whole // 3600 * 3600
    return found


def hour_of_week(hours: Ints) -> Ints:
    """0 for Monday 00:00; the first hour of 1970 was a Thursday's."""
    return (hours + 3 * 24) % 168


def draw_rhythm(count: int, parameters: Parameters, random: np.random.Generator) -> Array:
    """Relative activity by local hour of the week [U, 168], mean 1."""
    peaks = np.array(parameters.peak_hours)
    peaks = peaks + random.normal(0, parameters.peak_sd_h, (count, len(peaks)))
    weight = random.dirichlet(np.ones(len(parameters.peak_hours)), count)
    apart = np.abs(np.arange(24)[None, None, :] + 0.5 - peaks[:, :, None]) % 24
    apart = np.minimum(apart, 24 - apart)
    bumps = np.exp(-0.5 * (apart / parameters.peak_width_h) ** 2)
    day = parameters.floor + (weight[:, :, None] * bumps).sum(axis=1)
    weekend = np.exp(random.normal(0, parameters.weekend_sd, count))
    week = np.tile(day, 7)
    week[:, 5 * 24 :] *= weekend[:, None]
    relative: Array = week / week.mean(axis=1, keepdims=True)
    return relative
