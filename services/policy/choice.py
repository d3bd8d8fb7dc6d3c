"""The choice among the options that the rules left: what each arm would do, exactly, and the draw.

Every arm is a list of atoms, outcomes with their probabilities. One list serves both the draw and
the propensities, so they can't disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from services.policy.arms import ARMS, Arm
from services.policy.batch import Floats

NO_SEND = -1


@dataclass(frozen=True, slots=True)
class Exploration:
    """Randomisation within the policy arm."""

    threshold_share: float = 0.05
    """Share of the decisions within the band around the threshold that toss a coin instead."""
    swap_share: float = 0.015
    """Share of the policy's sends whose event is drawn from the best few instead."""
    swap_events: int = 3
    """How many the best few are."""


@dataclass(frozen=True, slots=True)
class Options:
    """One slot's options that the rules left, at least one."""

    utility: Sequence[float]
    margin: Sequence[float]
    """Utility less the threshold of the option's cell."""
    in_band: Sequence[bool]
    """The utility lies where decisions are randomised."""
    column: Sequence[int]
    """Channel less 1."""
    fallback: Sequence[bool]
    """Only taken when push and e-mail are judged not worth it."""
    ready: bool = False
    """A ready event: nothing is judged, options are in order of preference."""


class Atom(NamedTuple):
    """One outcome of an arm: its probability, the option or NO_SEND, and the reason to log."""

    probability: float
    option: int
    reason: str


def atoms(arm: Arm, options: Options, exploration: Exploration) -> list[Atom]:
    """What an arm does with these options; the probabilities sum to 1."""
    if arm is Arm.RANDOM_SEND:
        count = len(options.utility)
        each = [Atom(0.5 / count, option, "RANDOM_SEND") for option in range(count)]
        return [Atom(0.5, NO_SEND, "RANDOM_SEND"), *each]
    if arm is Arm.GREEDY_NO_SEND:
        return [Atom(1.0, NO_SEND, "GREEDY_NO_SEND")]
    if options.ready:
        reason = "READY" if arm is Arm.POLICY else "GREEDY_SEND"
        return [Atom(1.0, _first_choice(options), reason)]
    if arm is Arm.GREEDY_SEND:
        return [Atom(1.0, _best(options, options.utility, _tier(options)), "GREEDY_SEND")]
    return _policy(options, exploration)


def propensities(
    by_arm: Sequence[Sequence[Atom]], arm_probabilities: Sequence[float], count: int
) -> tuple[Floats, Floats]:
    """Probability of each option, [count + 1] with no send last, and the same under each arm,
    [arms, count + 1]. Formula (2) of `arms`."""
    rows = [[0.0] * (count + 1) for _ in by_arm]
    for row, outcomes in zip(rows, by_arm, strict=True):
        for probability, option, _ in outcomes:
            row[option] += probability  # NO_SEND is -1, the last column
    under = np.array(rows)
    return np.asarray(arm_probabilities) @ under, under


def draw(outcomes: Sequence[Atom], mark: float) -> Atom:
    """The atom at `mark`, uniform in [0, 1), of the cumulated probabilities."""
    for atom in outcomes:
        mark -= atom.probability
        if mark < 0:
            return atom
    return max(outcomes, key=lambda atom: atom.probability)


def all_atoms(options: Options, exploration: Exploration) -> list[list[Atom]]:
    """The atoms of each arm, in the order of ARMS."""
    return [atoms(arm, options, exploration) for arm in ARMS]


def judged(options: Options) -> int:
    """The option that the policy weighs against sending nothing: the one it would take, or else
    the one that comes nearest to its threshold."""
    taken = _taken(options)
    return _best(options, options.margin, _tier(options)) if taken == NO_SEND else taken


def _policy(options: Options, exploration: Exploration) -> list[Atom]:
    """Best option above its threshold; near the threshold a coin, and a few swapped events."""
    taken = _taken(options)
    weighed = judged(options)
    coin = exploration.threshold_share if options.in_band[weighed] else 0.0
    found = [
        Atom(coin / 2, weighed, "EXPLORE_THRESHOLD"),
        Atom(coin / 2, NO_SEND, "EXPLORE_THRESHOLD"),
    ]
    if taken == NO_SEND:
        found.append(Atom(1.0 - coin, NO_SEND, "BELOW_THRESHOLD"))
    else:
        found.extend(_sends(options, taken, exploration, 1.0 - coin))
    return [atom for atom in found if atom.probability > 0]


def _sends(
    options: Options, taken: int, exploration: Exploration, probability: float
) -> list[Atom]:
    """The option taken, or with the swap share one of the best few of its channel that pass too,
    itself among them."""
    same = [
        option
        for option, margin in enumerate(options.margin)
        if margin >= 0
        and options.column[option] == options.column[taken]
        and options.fallback[option] == options.fallback[taken]
    ]
    few = sorted(same, key=lambda option: (-options.margin[option], option))
    few = few[: exploration.swap_events]
    swap = exploration.swap_share if len(few) > 1 else 0.0
    found = [Atom(probability * (1.0 - swap), taken, "ABOVE_THRESHOLD")]
    if swap:
        each = probability * swap / len(few)
        found.extend(Atom(each, option, "EXPLORE_EVENT") for option in few)
    return found


def _taken(options: Options) -> int:
    """Largest margin among the options at or above their threshold; the fallback only when no
    other is."""
    for fallback in (False, True):
        passing = [
            option
            for option, margin in enumerate(options.margin)
            if margin >= 0 and options.fallback[option] is fallback
        ]
        if passing:
            return _best(options, options.margin, passing)
    return NO_SEND


def _tier(options: Options) -> list[int]:
    """The options that are not a fallback, or all when there are none."""
    first = [option for option, fallback in enumerate(options.fallback) if not fallback]
    return first or list(range(len(options.fallback)))


def _best(options: Options, values: Sequence[float], among: Sequence[int]) -> int:
    return max(among, key=lambda option: (values[option], -option))


def _first_choice(options: Options) -> int:
    return _tier(options)[0]
