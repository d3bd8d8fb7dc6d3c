"""Utilities of a batch's options, the thresholds they are held against, and what was offered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.policy.batch import Batch, Floats
from services.policy.channel_bits import CHANNELS
from services.policy.controller import Judgement, State, batch_judgement
from services.policy.ids import user_hash
from services.policy.utility import Objectives, utilities


class Cell(NamedTuple):
    """What has a threshold and a volume of its own."""

    group: str
    segment: str
    channel: int


@dataclass(frozen=True, slots=True)
class Model:
    """What the score columns are, and what they are worth."""

    heads: Sequence[int] = ()
    trained: Sequence[int] = ()
    objectives: Objectives = field(default_factory=Objectives)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds in force, and the states of the cells under a target, from which a batch with
    many offers reads its own."""

    known: Mapping[Cell, Judgement]
    states: Mapping[Cell, State]
    default: Judgement
    """Of cells without a target."""
    band: float = 0.1
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Offers:
    """Best option of each slot that a cell could have sent, or a sample of them by user."""

    user_hashes: list[int]
    utilities: list[float]
    count: int
    """How many there were before sampling."""

    def joined(self, other: "Offers") -> "Offers":
        """Both."""
        return Offers(
            self.user_hashes + other.user_hashes,
            self.utilities + other.utilities,
            self.count + other.count,
        )

    def sample(self, size: int) -> "Offers":
        """The users with the smallest hashes: the same ones in every batch."""
        order = sorted(range(len(self.user_hashes)), key=self.user_hashes.__getitem__)[:size]
        return Offers(
            [self.user_hashes[at] for at in order],
            [self.utilities[at] for at in order],
            self.count,
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """Columns of a batch: what is left is compared by these."""

    utility: Floats
    """Of each option."""
    threshold: Floats
    """[slots, channels]"""
    band_low: Floats
    band_high: Floats
    fallback: NDArray[np.bool_]
    """Options taken only when push and e-mail are judged not worth it."""
    offers: dict[Cell, Offers]
    opened: dict[Cell, Judgement]
    """Thresholds read off this batch's offers, of cells that had none."""


def judge(batch: Batch, left: NDArray[np.bool_], model: Model, thresholds: Thresholds) -> Judged:
    """Judge the options that the rules left. Ready events and holdouts offer nothing."""
    utility = _utility(batch, model)
    fallback = _fallback(batch)
    ranked = np.array(
        [
            not s.ready and not u.membership.holdout
            for s, u in zip(batch.slots, batch.users, strict=True)
        ],
        dtype=bool,
    )
    offered = left & ranked[batch.slot]
    first = _best(batch, utility, offered & ~fallback)
    held = _columns(batch, thresholds, _own(batch, first, thresholds))
    with np.errstate(invalid="ignore"):
        worth: NDArray[np.bool_] = np.any(first >= held[0], axis=1)
    second = _best(batch, utility, offered & fallback & ~worth[batch.slot])
    best = np.where(np.isnan(first), second, first)
    own = _own(batch, best, thresholds)
    held = _columns(batch, thresholds, own)
    opened = {place: one for place, one in own.items() if place not in thresholds.known}
    return Judged(utility, *held, fallback, _offers(batch, best), opened)


def _utility(batch: Batch, model: Model) -> Floats:
    if not model.heads:
        return np.zeros(batch.size)
    scores = np.zeros((len(batch.events), len(model.heads)), dtype=np.float32)
    for index, slot in enumerate(batch.slots):
        if slot.scores is not None:
            scores[batch.event_starts[index] : batch.event_starts[index + 1]] = slot.scores
    segments = [batch.users[slot].segment for slot in batch.event_slot]
    worth = utilities(scores, segments, model.objectives, model.heads, model.trained)
    found: Floats = worth[batch.event, batch.column]
    return found


def _fallback(batch: Batch) -> NDArray[np.bool_]:
    in_app = CHANNELS.index(3)
    allowed = np.array([kind.in_app_fallback for kind in batch.types], dtype=bool)
    found: NDArray[np.bool_] = allowed[batch.event_type][batch.event] & (batch.column == in_app)
    return found


def _best(batch: Batch, utility: Floats, among: NDArray[np.bool_]) -> Floats:
    """Largest utility by slot and channel, [slots, channels]; NaN where there is no option."""
    best = np.full((len(batch.slots), len(CHANNELS)), -np.inf)
    np.maximum.at(best, (batch.slot[among], batch.column[among]), utility[among])
    return np.where(np.isneginf(best), np.nan, best)


def cell(batch: Batch, slot: int, channel: int) -> Cell:
    """The cell of one slot and channel."""
    user = batch.users[slot]
    return Cell(user.membership.threshold_group, user.segment, channel)


def _own(batch: Batch, best: Floats, thresholds: Thresholds) -> dict[Cell, Judgement]:
    """Thresholds of the cells that are offered so much here that the batch tells its own, or of
    which nothing else is known."""
    found: dict[Cell, list[float]] = {}
    for slot, column in np.argwhere(~np.isnan(best)):
        place = cell(batch, int(slot), CHANNELS[column])
        if place in thresholds.states:
            found.setdefault(place, []).append(float(best[slot, column]))
    own: dict[Cell, Judgement] = {}
    for place, values in found.items():
        one = batch_judgement(
            thresholds.states[place],
            np.array(values),
            band=thresholds.band,
            floor=thresholds.floor,
            alone=place not in thresholds.known,
        )
        if one is not None:
            own[place] = one
    return own


def _columns(
    batch: Batch, thresholds: Thresholds, own: Mapping[Cell, Judgement]
) -> tuple[Floats, Floats, Floats]:
    """Threshold and band of each slot's cells, three times [slots, channels]."""
    rows: dict[tuple[str, str], list[Judgement]] = {}
    found = np.empty((3, len(batch.slots), len(CHANNELS)))
    for index, user in enumerate(batch.users):
        key = (user.membership.threshold_group, user.segment)
        if key not in rows:
            places = [Cell(*key, channel) for channel in CHANNELS]
            rows[key] = [
                own.get(place) or thresholds.known.get(place) or thresholds.default
                for place in places
            ]
        for column, one in enumerate(rows[key]):
            found[:, index, column] = one.threshold, one.band_low, one.band_high
    return found[0], found[1], found[2]


def _offers(batch: Batch, best: Floats) -> dict[Cell, Offers]:
    hashes: dict[int, int] = {}
    users: dict[Cell, list[int]] = {}
    values: dict[Cell, list[float]] = {}
    for row, column in np.argwhere(~np.isnan(best)):
        slot = int(row)
        if slot not in hashes:
            hashes[slot] = user_hash(batch.users[slot].user_id)
        place = cell(batch, slot, CHANNELS[column])
        users.setdefault(place, []).append(hashes[slot])
        values.setdefault(place, []).append(float(best[slot, column]))
    return {place: Offers(users[place], values[place], len(values[place])) for place in users}
