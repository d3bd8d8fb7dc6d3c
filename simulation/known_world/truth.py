"""The true probability of each head for each decision, exactly, from the world's probabilities.

Each is conditional on the whole state of the world when the decision is made and on the option it
takes: latent tastes, openness, rhythm and rates of the user, fatigue, the channels that are on, and
the offers of this and later slots, which exist before anything happens. All that happens later is
summed over: the logging policy's draws, opens, opt-outs, sessions, the app's removal.

The sum goes backwards over the slots of the window: a value for each state (which of the last six
slots sent, push and e-mail on or off) at a slot, from those at the next one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import HEADS, Head
from simulation.known_world.chances import (
    MASKS,
    Chances,
    answered_within,
    channel_shares,
    next_mask,
)
from simulation.known_world.parameters import CHANNELS, SLOTS_PER_DAY, Parameters
from simulation.known_world.play import NOTHING, Played

WINDOW_DAYS = {Head.SESSION_1D: 1, Head.SESSION_3D: 3, Head.APP_DELETE: 3}
OPEN_HEADS = (Head.PUSH_OPEN, Head.EMAIL_CLICK, Head.INAPP_CLICK)
OFF_HEADS = (Head.PUSH_DISABLE, Head.EMAIL_UNSUBSCRIBE)
PUSH_ON = np.array([False, False, True, True])
EMAIL_ON = np.array([False, True, False, True])
"""Channels that are on, in each of the four states of channels."""
WITHOUT = np.array([[0, 1, 0, 1], [0, 0, 2, 2], [0, 1, 2, 3]])
"""The state of channels once push, e-mail or in-app (which can't be) has been turned off."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Truth:
    """Probabilities [U, n, heads] in the order of HEADS, NaN where there is none."""

    decided: Array
    """Of the option taken; none for heads of other channels and where nothing was decided."""
    unsent: Array
    """Had nothing been sent; for app deletes and sessions alone."""


def truth(chances: Chances, played: Played, slots: int) -> Truth:
    """The truth of the first `slots` slots; there must be a longest window's more of them."""
    shape = (len(played.here), slots, len(HEADS))
    found = Truth(np.full(shape, np.nan), np.full(shape, np.nan))
    quiet = [_Step.quiet(chances, slot) for slot in range(chances.slots)]
    staying = [_Step.staying(chances, slot) for slot in range(chances.slots)]
    for slot in range(slots):
        own = _Own.of(chances, played, slot)
        own.put_answers(found.decided[:, slot])
        for sent, into in ((True, found.decided), (False, found.unsent)):
            into[:, slot, HEADS.index(Head.SESSION_1H)] = 1 - own.quiet_1h(sent)
        for head, days in WINDOW_DAYS.items():
            deletes = head is Head.APP_DELETE
            value = _ahead(staying if deletes else quiet, slot, days)
            column = HEADS.index(head)
            for sent, into in ((True, found.decided), (False, found.unsent)):
                stay, off = own.staying(sent) if deletes else own.quiet(sent)
                into[:, slot, column] = 1 - own.expected(value, stay, off, sent)
    nobody = ~played.here[:, :slots]
    found.decided[nobody] = found.unsent[nobody] = np.nan
    return found


@dataclass(frozen=True, slots=True)
class _Step:
    """One slot under the logging policy: how a value at the next slot becomes one at this.

    The value is the probability that nothing has happened by the window's end: no session, or no
    removal of the app. Users come last in all arrays, which makes this five times as fast.
    """

    none: Array
    """Probability that nothing is sent, and nothing happens up to the next slot [U]."""
    stay: Array
    """That something is sent, nothing happens, and channels stay on [4, 2, masks / 2, U]."""
    off: Mapping[tuple[int, int], Array]
    """The same, but turning a channel off [2, masks / 2, U]; by state of channels, and by the state
    that is left."""
    keep: Array
    """The app stays to the next slot; by the mask after this one [masks, U]."""
    lost: Array
    """What its removal adds to the value [masks, U]."""

    @classmethod
    def quiet(cls, chances: Chances, slot: int) -> "_Step":
        """For sessions: without the app there are none."""
        organic, organic_3h = chances.organic[:, slot], chances.organic_3h[:, slot]
        awake = chances.open_factor[:, slot % SLOTS_PER_DAY].T
        nudges = [each * organic_3h * awake for each in chances.parameters.nudge]
        still = [np.exp(-organic - nudge) for nudge in nudges]
        opened = [opens * awake for opens, _, _ in _means(chances, slot)]
        return cls._of(chances, slot, np.exp(-organic), still, opened, gone=1.0)

    @classmethod
    def staying(cls, chances: Chances, slot: int) -> "_Step":
        """For the app's removal."""
        nothing = [np.zeros((MASKS, 1))] * CHANNELS
        still = [each + 1 for each in nothing]
        return cls._of(chances, slot, np.ones(len(chances.keep)), still, nothing, gone=0.0)

    @classmethod
    def _of(
        cls,
        chances: Chances,
        slot: int,
        usual: Array,
        still: Sequence[Array],
        ended: Sequence[Array],
        gone: float,
    ) -> "_Step":
        """`usual`, `still`: that nothing happens without and with a send, opens aside. `ended`:
        that the send is opened, where this ends it."""
        of_day, share = slot % SLOTS_PER_DAY, chances.parameters.send_share
        awake, tired = chances.open_factor[:, of_day].T, chances.off_factor[:, of_day].T
        turned = [offs * tired - both * awake * tired for _, offs, both in _means(chances, slot)]
        halves = (2, MASKS // 2, len(usual))
        stay, off = [], {}
        for state, shares in enumerate(share * channel_shares(PUSH_ON, EMAIL_ON)):
            on = np.flatnonzero(shares).tolist()
            each = [shares[c] * still[c] * (1 - ended[c] - turned[c]) for c in on]
            stay.append(sum(each[1:], each[0]).reshape(halves))
            for c in on:
                if WITHOUT[c, state] != state:
                    left = shares[c] * still[c] * turned[c]
                    off[state, int(WITHOUT[c, state])] = left.reshape(halves)
        keep = np.ascontiguousarray(chances.keep[:, of_day].T)
        return cls((1 - share) * usual, np.stack(stay), off, keep, (1 - keep) * gone)

    def settled(self, value: Array) -> Array:
        """The value [4, masks, U] after the option and its answer, from that at the next slot."""
        mixed: Array = self.keep * value + self.lost
        return mixed

    def before(self, value: Array) -> Array:
        """The value [4, masks, U] before the option is drawn, from that at the next slot.

        Sends and no-sends lead to odd and even masks; the oldest bit is forgotten.
        """
        after = self.settled(value)
        unsent, sent = after[:, None, 0::2], after[:, None, 1::2]
        found = self.stay * sent
        for (state, without), share in self.off.items():
            found[state] += share * sent[without]
        found += self.none * unsent
        return found.reshape(value.shape)


def _means(chances: Chances, slot: int) -> list[tuple[Array, Array, Array]]:
    """Per channel, means over the slot's offers [U] for rested users: of the probabilities to open,
    to turn the channel off unless opened, and of their product."""
    opens, off = chances.opens[:, slot], chances.off[:, slot]
    columns = (opens.mean(axis=1), off.mean(axis=1), (opens * off).mean(axis=1))
    return [(columns[0][:, c], columns[1][:, c], columns[2][:, c]) for c in range(CHANNELS)]


def _ahead(steps: Sequence[_Step], slot: int, days: int) -> Array:
    """The value after the answer to a slot's option [4, masks, U], for a window of some days."""
    value = np.ones((len(PUSH_ON), *steps[slot].keep.shape))
    for step in reversed(steps[slot + 1 : slot + days * SLOTS_PER_DAY]):
        value = step.before(value)
    return steps[slot].settled(value)


@dataclass(frozen=True, slots=True)
class _Own:
    """The slot's own option: its probabilities per user [U]; 0 where nothing was sent."""

    parameters: Parameters
    channel: NDArray[np.int64]
    opens: Array
    off: Array
    """To turn the channel off, unless opened."""
    nudge: Array
    """Factor on the usual sessions of the next three hours, less one."""
    organic: tuple[Array, Array, Array]
    """Usual sessions to the next slot, in one hour and in three."""
    state: NDArray[np.int64]
    """Of channels, at the slot."""
    mask: NDArray[np.int64]

    @classmethod
    def of(cls, chances: Chances, played: Played, slot: int) -> "_Own":
        """The option that was taken at the slot."""
        channel, offer = played.channel[:, slot], played.offer[:, slot]
        users, of_day, mask = np.arange(len(channel)), slot % SLOTS_PER_DAY, played.mask[:, slot]
        sent = channel != NOTHING
        awake = chances.open_factor[users, of_day, mask] * sent
        tired = chances.off_factor[users, of_day, mask] * sent
        return cls(
            parameters=chances.parameters,
            channel=channel,
            opens=chances.opens[users, slot, offer, channel] * awake,
            off=chances.off[users, slot, offer, channel] * tired,
            nudge=np.array(chances.parameters.nudge)[channel] * awake,
            organic=(
                chances.organic[:, slot],
                chances.organic_1h[:, slot],
                chances.organic_3h[:, slot],
            ),
            state=played.push[:, slot] * 2 + played.email[:, slot],
            mask=mask,
        )

    def put_answers(self, into: Array) -> None:
        """Set the heads of the channel that was sent through, in `into` [U, heads]."""
        turned = (1 - self.opens) * self.off
        for values, heads in ((self.opens, OPEN_HEADS), (turned, OFF_HEADS)):
            for channel, head in enumerate(heads):
                rows = self.channel == channel
                into[rows, HEADS.index(head)] = values[rows]

    def quiet_1h(self, sent: bool) -> Array:
        """Probability of no session in the first hour [U]."""
        _, usual, _ = self.organic
        soon = answered_within(3600, self.parameters)
        if not sent:
            return np.exp(-usual)
        return np.exp(-usual * (1 + self.nudge)) * (1 - self.opens * soon)

    def quiet(self, sent: bool) -> tuple[Array, Array]:
        """Probability of no session up to the next slot [U], with the channel left on and off."""
        usual, _, usual_3h = self.organic
        if not sent:
            return np.exp(-usual), np.zeros_like(usual)
        still = np.exp(-usual - self.nudge * usual_3h) * (1 - self.opens)
        return still * (1 - self.off), still * self.off

    def staying(self, sent: bool) -> tuple[Array, Array]:
        """Probability of leaving the channel on, and of turning it off [U]."""
        turned = (1 - self.opens) * self.off * sent
        return 1 - turned, turned

    def expected(self, value: Array, stay: Array, off: Array, sent: bool) -> Array:
        """The value [U] of the option, from that of the states it may lead to."""
        users = np.arange(len(self.mask))
        mask = next_mask(self.mask, (self.channel != NOTHING) & sent)
        without = WITHOUT[self.channel, self.state]
        found: Array = stay * value[self.state, mask, users] + off * value[without, mask, users]
        return found
