"""Arms: how the decisions of a user and a local day are drawn, and what they reveal of it.

A user's arm is drawn once for each local day, by a salted hash, and is not told. What the day's
earlier decisions chose makes some arms likelier than others; with L_a the product, over these
decisions, of the probability with which arm a takes what was taken, the probability of arm a is

    P(a | day so far) = prior_a L_a / sum_b prior_b L_b                                (1)

and the propensity of an option o, under the whole randomised policy and given the options that the
rules left, is

    P(o | day so far) = sum_a P(a | day so far) P(o | a)                               (2)

The product of (2) over a day is the probability of the whole day's choices, so inverse propensity
weights of a day multiply up as they should. L_a is kept for each user up to a common factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntEnum

from services.runtime.hashing import unit_hash


class Arm(IntEnum):
    """How a decision was drawn; numbers of the proto."""

    POLICY = 1
    RANDOM_SEND = 2
    GREEDY_SEND = 3
    GREEDY_NO_SEND = 4
    HOLDOUT = 5


ARMS = (Arm.POLICY, Arm.RANDOM_SEND, Arm.GREEDY_SEND, Arm.GREEDY_NO_SEND)
"""The arms that are drawn. A holdout is an experiment's, not drawn here."""


@dataclass(frozen=True, slots=True)
class ArmShares:
    """Probability of each arm but the policy's, which gets the rest."""

    random_send: float = 0.005
    greedy_send: float = 0.0025
    greedy_no_send: float = 0.0025

    def priors(self) -> tuple[float, ...]:
        """Probabilities in the order of ARMS; they sum to 1."""
        drawn = (self.random_send, self.greedy_send, self.greedy_no_send)
        return (1.0 - sum(drawn), *drawn)


def draw_arm(shares: ArmShares, salt: str, user_id: str, day: date) -> Arm:
    """The arm of a user on a local day: the same whoever asks, and however often."""
    mark = unit_hash(salt, "arm", user_id, day.isoformat())
    for arm, share in zip(ARMS[1:], shares.priors()[1:], strict=True):
        if mark < share:
            return arm
        mark -= share
    return Arm.POLICY


def posterior(priors: Sequence[float], likelihoods: Sequence[float]) -> tuple[float, ...]:
    """Formula (1), in the order of ARMS; no likelihoods (nothing revealed yet) give the priors."""
    if not likelihoods:
        return tuple(priors)
    joint = [prior * likelihood for prior, likelihood in zip(priors, likelihoods, strict=True)]
    total = sum(joint)
    return tuple(value / total for value in joint)


def revealed(likelihoods: Sequence[float], taken: Sequence[float]) -> tuple[float, ...]:
    """Likelihoods after one more decision, whose choice had probability `taken` under each arm.

    Scaled so that the largest is 1: only ratios matter, and long days don't underflow.
    """
    before = likelihoods or (1.0,) * len(taken)
    joint = [old * new for old, new in zip(before, taken, strict=True)]
    largest = max(joint)
    return tuple(value / largest for value in joint)
