"""What happens to a block of users, drawn slot by slot for all of them at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.known_world.chances import (
    Chances,
    answer_delays,
    channel_shares,
    next_mask,
)
from simulation.known_world.parameters import ANSWER_HOURS, SLOTS_PER_DAY
from simulation.known_world.people import People

NOTHING = -1

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Played:
    """What was decided and what came of it, [U, n] for U users and n slots, and the sessions."""

    here: Bools
    """The app was there at the slot; else nothing was decided."""
    mask: Ints
    """Which of the last slots sent, before this one; the newest in the lowest bit."""
    push: Bools
    email: Bools
    """The channel was on at the slot."""
    channel: Ints
    """0 push, 1 e-mail, 2 in-app; NOTHING where nothing was sent."""
    offer: Ints
    """Position among the slot's offers; 0 where nothing was sent."""
    propensity: NDArray[np.float64]
    """Of the option taken: its offer and channel, or nothing."""
    opened: Bools
    dismissed: Bools
    off: Bools
    """The channel was turned off."""
    delay: Ints
    """Seconds from the send to any of these answers."""
    session_user: Ints
    session_time: Ints
    """Sessions by user and time; seconds since 1970, never a slot's own second."""
    deleted: Ints
    """When each user deleted the app [U], seconds since 1970; NOTHING: not in this time."""


def play(people: People, chances: Chances, random: np.random.Generator) -> Played:
    """Draw everything. Sessions without sends come first, then what follows from sends.

    In the interval after a slot: the option is drawn, then the answer, within three hours; the app
    is removed in the last second before the next slot, if it is.
    """
    shape = (len(people.push), chances.slots)
    flags = {name: np.zeros(shape, np.bool_) for name in _FLAGS}
    numbers = {name: np.zeros(shape, np.int64) for name in ("mask", "channel", "offer", "delay")}
    propensity = np.ones(shape)
    sessions = [_organic(people, random)]
    here, mask = np.ones(shape[0], np.bool_), np.zeros(shape[0], np.int64)
    push, email = people.push.copy(), people.email.copy()
    deleted = np.full(shape[0], NOTHING, np.int64)
    for slot in range(shape[1]):
        state = {"here": here.copy(), "push": push.copy(), "email": email.copy()}
        drawn = _Draw(chances, slot, here, mask, channel_shares(push, email), random)
        for name, values in {**state, **drawn.flags}.items():
            flags[name][:, slot] = values
        for name, values in {"mask": mask, **drawn.numbers}.items():
            numbers[name][:, slot] = values
        propensity[:, slot] = drawn.propensity
        sessions += drawn.sessions(people, slot, random)
        push &= ~(drawn.flags["off"] & (drawn.numbers["channel"] == 0))
        email &= ~(drawn.flags["off"] & (drawn.numbers["channel"] == 1))
        mask = next_mask(mask, drawn.sent)
        gone = here & (random.random(shape[0]) >= _keep(chances, slot, mask))
        deleted[gone] = people.slots[gone, slot + 1] - 1
        here &= ~gone
    user, time = _before(deleted, sessions)
    return Played(
        here=flags["here"],
        mask=numbers["mask"],
        push=flags["push"],
        email=flags["email"],
        channel=numbers["channel"],
        offer=numbers["offer"],
        opened=flags["opened"],
        dismissed=flags["dismissed"],
        off=flags["off"],
        delay=numbers["delay"],
        propensity=propensity,
        session_user=user,
        session_time=time,
        deleted=deleted,
    )


_FLAGS = ("here", "push", "email", "opened", "dismissed", "off")


class _Draw:
    """One slot: what was sent to whom, and the answers."""

    def __init__(
        self,
        chances: Chances,
        slot: int,
        here: Bools,
        mask: Ints,
        shares: NDArray[np.float64],
        random: np.random.Generator,
    ) -> None:
        count, offers = len(here), chances.opens.shape[2]
        users, of_day = np.arange(count), slot % SLOTS_PER_DAY
        send_share = chances.parameters.send_share
        draws = random.random((6, count))
        self.sent = here & (draws[0] < send_share)
        channel = (draws[1][:, None] >= np.cumsum(shares, axis=1)[:, :-1]).sum(axis=1)
        offer = (draws[2] * offers).astype(np.int64)
        sending = send_share * shares[users, channel] / offers
        self.propensity = np.where(self.sent, sending, 1 - send_share)
        self._chances = chances
        self._awake = chances.open_factor[users, of_day, mask]
        opens = chances.opens[users, slot, offer, channel] * self._awake
        off = chances.off[users, slot, offer, channel] * chances.off_factor[users, of_day, mask]
        opened = self.sent & (draws[3] < opens)
        self.flags = {
            "opened": opened,
            "off": self.sent & ~opened & (draws[4] < off),
            "dismissed": self.sent & ~opened & (draws[5] < chances.dismiss[users, slot, offer]),
        }
        self.numbers = {
            "channel": np.where(self.sent, channel, NOTHING),
            "offer": np.where(self.sent, offer, 0),
            "delay": answer_delays(count, chances.parameters, random),
        }

    def sessions(
        self, people: People, slot: int, random: np.random.Generator
    ) -> list[tuple[Ints, Ints]]:
        """Users and times of the sessions that the sends brought."""
        now = people.slots[:, slot]
        opened = np.flatnonzero(self.flags["opened"])
        found = [(opened, now[opened] + self.numbers["delay"][opened])]
        nudge = np.array((*self._chances.parameters.nudge, 0.0))[self.numbers["channel"]]
        hour = now // 3600 - people.first_hour
        for later in range(ANSWER_HOURS):
            usual = people.hourly[np.arange(len(now)), hour + later]
            counts = random.poisson(nudge * self._awake * usual)
            user = np.repeat(np.arange(len(now)), counts)
            found.append((user, now[user] + later * 3600 + _in_hour(len(user), random)))
        return found


def _organic(people: People, random: np.random.Generator) -> tuple[Ints, Ints]:
    counts = random.poisson(people.hourly)
    user, hour = np.nonzero(counts)
    repeated = counts[user, hour]
    user, hour = np.repeat(user, repeated), np.repeat(hour, repeated)
    return user, (people.first_hour + hour) * 3600 + _in_hour(len(user), random)


def _in_hour(count: int, random: np.random.Generator) -> Ints:
    """Seconds after a full hour, never 0."""
    return random.integers(1, 3600, count)


def _keep(chances: Chances, slot: int, mask: Ints) -> NDArray[np.float64]:
    kept: NDArray[np.float64] = chances.keep[np.arange(len(mask)), slot % SLOTS_PER_DAY, mask]
    return kept


def _before(deleted: Ints, sessions: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """The sessions that came before the app was deleted, by user and time."""
    user = np.concatenate([each for each, _ in sessions])
    time = np.concatenate([each for _, each in sessions])
    while_here = (deleted[user] == NOTHING) | (time <= deleted[user])
    user, time = user[while_here], time[while_here]
    order = np.lexsort((time, user))
    return user[order], time[order]
