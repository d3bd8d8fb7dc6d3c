"""`python -m bench.ranker_limit --json OUT`: how well opens could be told at best.

An observer of the base world who knows its law: every parameter, the items' factors, and how users
are drawn. Of a user it knows what features may know: sends, answers, sessions, and the sources'
scores before the decision. Its prediction of an open is the posterior mean, by importance sampling:
particles are users drawn as the world draws them, weighed by the likelihood of what was observed.
It is judged as `bench.ranker_quality` judges models, by the divergence from the true probability,
so that no model without more knowledge can be better, but for the sampling's error (fewer particles
make the divergence larger, never smaller on average). What is not used: that a source chose an
item says something of the user's taste.

Observers that lack some of the knowledge tell what it is worth.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bench.ranker_quality import ENGAGEMENT, JUDGED_ON
from bench.report import BenchReport
from services.ranker.training.logistic import log_losses, sigmoid
from simulation.download import load
from simulation.known_world.making import BLOCK, Block, WorldOptions, play_block
from simulation.known_world.offers import SOURCES
from simulation.known_world.parameters import (
    ANSWER_HOURS,
    SLOTS_PER_DAY,
    WORLDS,
    Parameters,
)
from simulation.known_world.people import blended, draw_rhythm, hour_of_week, seconds_ahead
from simulation.known_world.play import NOTHING
from simulation.known_world.tastes import Tastes, fit
from simulation.movielens import MovieLens

Array = NDArray[np.float64]
HABITS = 20_000
"""Rhythms and rates that each user's particles are chosen from, by the sessions of the warm-up."""
NODES = 9
"""Of the quadrature over a taste that tells nothing of other tastes."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What an observer knows."""

    tastes: Literal["factors", "items", "none"] = "factors"
    """How tastes hang together; only each item's mean and spread; only those of all together."""
    sessions: bool = True
    answers: bool = True


OBSERVERS: Mapping[str, Knowledge] = {
    "all": Knowledge(),
    "without_factors": Knowledge(tastes="items"),
    "without_items": Knowledge(tastes="none"),
    "without_sessions": Knowledge(sessions=False),
    "without_answers": Knowledge(answers=False),
}


@dataclass(frozen=True, slots=True)
class Crowd:
    """M users drawn as the world draws them, and HABITS rhythms with rates."""

    taste: Array
    """[M, items]"""
    openness: Array
    """[M, 3]"""
    rhythm: Array
    """Relative activity [HABITS, 168]."""
    rate: Array
    """Sessions a day [HABITS]."""

    @classmethod
    def draw(
        cls,
        count: int,
        data: MovieLens,
        tastes: Tastes,
        parameters: Parameters,
        random: np.random.Generator,
    ) -> "Crowd":
        """So many."""
        pairs = random.integers(len(data.users), size=(count, 2))
        channels = random.normal(0, parameters.channel_sd, (count, len(parameters.open_logit)))
        rates = random.normal(0, parameters.session_sd, HABITS)
        return cls(
            taste=tastes.scores(blended(tastes.users, pairs, parameters.blend)),
            openness=random.normal(0, parameters.openness_sd, (count, 1)) + channels,
            rhythm=draw_rhythm(HABITS, parameters, random),
            rate=parameters.sessions_per_day * np.exp(rates),
        )


class Sittings:
    """A user's sessions, but those that are an open, and what sends added to their number."""

    def __init__(self, block: Block, user: int) -> None:
        people, played = block.people, block.played
        hours = people.first_hour + np.arange(people.hourly.shape[1])
        local = hours + seconds_ahead(people.time_zone[user]) // 3600
        self.hour_of_week = hour_of_week(local)
        opened = played.opened[user]
        answers = people.slots[user, :-1][opened] + played.delay[user][opened]
        times = played.session_time[played.session_user == user]
        usual = times[~np.isin(times, answers)] // 3600 - people.first_hour
        self._counts = np.bincount(usual, minlength=len(hours))[: len(hours)].astype(np.float64)
        self._exposure = (hours * 3600 >= people.joined[user]).astype(np.float64)
        parameters = block.chances.parameters
        for slot in np.flatnonzero(played.here[user] & (played.channel[user] != NOTHING)).tolist():
            awake = block.chances.open_factor[user, slot % SLOTS_PER_DAY, played.mask[user, slot]]
            nudge = parameters.nudge[played.channel[user, slot]] * awake
            first = self.hour_of(block, user, slot)
            self._exposure[first : first + ANSWER_HOURS] *= 1 + nudge

    @staticmethod
    def hour_of(block: Block, user: int, slot: int) -> int:
        """Column of a slot's hour."""
        return int(block.people.slots[user, slot] // 3600 - block.people.first_hour)

    def log_likelihood(
        self, first: int, last: int, crowd: Crowd, habits: NDArray[np.int64]
    ) -> Array:
        """Of the sessions in these hours, under some of the habits [len(habits)]: a Poisson count
        for each hour."""
        week = self.hour_of_week[first:last]
        counts = np.bincount(week, self._counts[first:last], 168)
        exposure = np.bincount(week, self._exposure[first:last], 168)
        seen = np.flatnonzero(counts)
        rhythm, hourly = crowd.rhythm[habits], crowd.rate[habits] / 24
        likely: Array = np.log(rhythm[:, seen]) @ counts[seen] + counts.sum() * np.log(hourly)
        return likely - hourly * (rhythm @ exposure)


@dataclass(frozen=True, slots=True)
class Send:
    """What was sent at a slot, and how it was answered."""

    parameters: Parameters
    channel: int
    item: int
    guess: float
    """The source's guess at the taste; NaN: it gave none."""
    stale: float
    awake: float
    tired: float
    """What fatigue does to opens, and to turning a channel off."""
    truth: float
    opened: bool
    off: bool
    dismissed: bool

    @classmethod
    def of(cls, block: Block, user: int, slot: int) -> "Send":
        """At a slot at which something was sent."""
        parameters, played, offers = block.chances.parameters, block.played, block.offers
        channel, offer = int(played.channel[user, slot]), int(played.offer[user, slot])
        at, of_day = (user, slot, offer), slot % SLOTS_PER_DAY
        guess = np.nan
        if SOURCES[offers.source[at]] == "collaborative":
            score = float(offers.score[at])
            guess = float(np.log(score / (1 - score))) - parameters.score_logit
        awake = block.chances.open_factor[user, of_day, played.mask[user, slot]]
        return cls(
            parameters=parameters,
            channel=channel,
            item=int(offers.item[at]),
            guess=guess,
            stale=float(offers.age_s[at]) / (parameters.oldest_offer_h * 3600),
            awake=float(awake),
            tired=float(block.chances.off_factor[user, of_day, played.mask[user, slot]]),
            truth=float(block.chances.opens[(*at, channel)] * awake),
            opened=bool(played.opened[user, slot]),
            off=bool(played.off[user, slot]),
            dismissed=bool(played.dismissed[user, slot]),
        )

    def taste_by_itself(self, mean: float, spread: float) -> tuple[Array, Array]:
        """Nodes and weights, each [NODES], of a taste of which mean and spread are known, and the
        source's guess."""
        if not np.isnan(self.guess):
            certain, told = spread**-2, self.parameters.score_noise**-2
            mean = (mean * certain + self.guess * told) / (certain + told)
            spread = (certain + told) ** -0.5
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        return mean + spread * nodes, weights / weights.sum()

    def log_guess(self, taste: Array) -> Array:
        """Likelihood of the source's guess, given tastes."""
        if np.isnan(self.guess):
            return np.zeros_like(taste)
        return -0.5 * ((self.guess - taste) / self.parameters.score_noise) ** 2

    def opens(self, taste: Array, rhythm: Array, openness: Array) -> Array:
        """Probabilities [M, K], of tastes [M or 1, K], log activities [M], openness [M, 3]."""
        user = self.parameters.rhythm_logit * rhythm + openness[:, self.channel]
        event = self.parameters.open_logit[self.channel] - self.parameters.stale_logit * self.stale
        found: Array = self.awake * sigmoid(
            event + self.parameters.taste_logit * taste + user[:, None]
        )
        return found

    def likelihood(self, taste: Array, opens: Array) -> Array:
        """Of the answer [M, K]."""
        if self.opened:
            return opens
        rates = (self.parameters.push_disable, self.parameters.email_unsubscribe, 0.0)
        dislike = np.exp(-self.parameters.dislike * taste)
        off = rates[self.channel] * dislike * self.tired
        dismiss = np.minimum(self.parameters.dismiss_share * dislike, 0.9)
        turned = off if self.off else 1 - off
        found: Array = (1 - opens) * turned * (dismiss if self.dismissed else 1 - dismiss)
        return found


class Observer:
    """Predicts the opens of users, one after the other."""

    def __init__(self, knowledge: Knowledge, crowd: Crowd, parameters: Parameters) -> None:
        self._knowledge = knowledge
        self._crowd = crowd
        self._rhythm = np.log(np.clip(crowd.rhythm, *parameters.rhythm_limits))
        self._mean, self._spread = crowd.taste.mean(0), crowd.taste.std(0)
        if knowledge.tastes == "none":
            self._mean = np.full_like(self._mean, crowd.taste.mean())
            self._spread = np.full_like(self._spread, crowd.taste.std())

    def predictions(
        self, block: Block, user: int, slots: int
    ) -> Iterator[tuple[int, float, float]]:
        """Channel, true and predicted probability of each send at the user's first slots."""
        sittings, known_until = Sittings(block, user), Sittings.hour_of(block, user, 0)
        habits = self._habits(sittings, known_until, np.random.default_rng(user))
        distinct, place = np.unique(habits, return_inverse=True)
        believed = np.zeros(len(habits))  # logarithms
        sent = block.played.here[user] & (block.played.channel[user] != NOTHING)
        for slot in np.flatnonzero(sent[:slots]).tolist():
            hour = Sittings.hour_of(block, user, slot)
            if self._knowledge.sessions:
                seen = sittings.log_likelihood(known_until, hour, self._crowd, distinct)
                believed += seen[place]
                known_until = hour
            send = Send.of(block, user, slot)
            rhythm = self._rhythm[habits, sittings.hour_of_week[hour]]
            now = believed
            if self._knowledge.tastes == "factors":
                taste, nodes = self._crowd.taste[:, send.item, None], np.ones(1)
                now = believed + send.log_guess(taste[:, 0])
            else:
                own = send.taste_by_itself(self._mean[send.item], self._spread[send.item])
                taste, nodes = own[0][None], own[1]
            opens = send.opens(taste, rhythm, self._crowd.openness)
            yield send.channel, send.truth, float(_shares(now) @ (opens @ nodes))
            if self._knowledge.answers:
                believed += np.log(send.likelihood(taste, opens) @ nodes)
                believed -= believed.max()

    def _habits(
        self, sittings: Sittings, until: int, random: np.random.Generator
    ) -> NDArray[np.int64]:
        """For each particle one of the habits, by the sessions up to an hour."""
        shares = None
        if self._knowledge.sessions:
            shares = _shares(sittings.log_likelihood(0, until, self._crowd, np.arange(HABITS)))
        chosen: NDArray[np.int64] = random.choice(HABITS, len(self._crowd.taste), p=shares)
        return chosen


def _shares(logarithms: Array) -> Array:
    """Weights that add up to 1."""
    weights = np.exp(logarithms - logarithms.max())
    found: Array = weights / weights.sum()
    return found


def divergences(observer: Observer, blocks: Sequence[Block], slots: int) -> dict[str, float]:
    """Mean divergence of an observer's predictions from the truth, by head."""
    told: dict[int, list[tuple[float, float]]] = {}
    for block in blocks:
        for user in range(len(block.people.push)):
            found = observer.predictions(block, user, slots)
            for channel, true, predicted in found:
                told.setdefault(channel, []).append((true, predicted))
    lost = {}
    for channel, head in enumerate(ENGAGEMENT):
        p, q = np.array(told[channel]).T
        lost[head.name] = float((log_losses(p, q) - log_losses(p, p)).mean())
    return lost


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.ranker_limit", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--days", type=int, default=21)
    parser.add_argument("--particles", type=int, default=10_000)
    given = parser.parse_args(arguments)
    world, seed = JUDGED_ON[0]
    options, data = WorldOptions(given.users, given.days, seed, world), load()
    parameters = WORLDS[world]
    tastes = fit(data, parameters)
    crowd = Crowd.draw(given.particles, data, tastes, parameters, np.random.default_rng(0))
    firsts = range(0, given.users, BLOCK)
    blocks = [play_block(data, tastes, options, first) for first in firsts]
    found = {}
    for name in track(OBSERVERS, "Observing", disable=not sys.stderr.isatty()):
        observer = Observer(OBSERVERS[name], crowd, parameters)
        found[name] = divergences(observer, blocks, given.days * SLOTS_PER_DAY)
    for name, heads in found.items():
        print(f"{name:18}", {head: round(value, 5) for head, value in heads.items()})
    series = {"world": world, "seed": seed, "particles": given.particles, "divergence": found}
    BenchReport("ranker_limit", {}, series, ("numpy",)).write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
