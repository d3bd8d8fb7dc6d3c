"""Targets, thresholds, objectives, volume and offers as stored."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Row

from services.policy.batch import Floats
from services.policy.channel_bits import CHANNELS
from services.policy.controller import Judgement, Reading, State, Step
from services.policy.experiments import Experiments
from services.policy.judging import Cell, Thresholds
from services.policy.pacing import BINS, SlotHours
from services.policy.recent_offers import READ_BACK, OfferBatch, RecentOffers
from services.policy.segments import ActiveDays, Segment, segment_of
from services.policy.utility import ANY_SEGMENT, DEFAULT_WEIGHTS, HeadWeight, Objectives
from services.runtime.database import UnitOfWork, load_queries
from services.runtime.partitions import ensure_day_partitions

_queries = load_queries(Path(__file__).with_name("control.sql"))

SAMPLED_RECIPIENTS = 5_000
READ_BATCHES = 10_000
"""Newest batches of offers that a threshold is read off."""
CURVE_DAYS = 7
OFFERS_PER_SLOT = 0.8
"""Of the slots that a channel reaches, those in which it has something to offer that no rule
removes and no other channel takes; a first guess that the controller's integral corrects."""

_STEP_COLUMNS = (
    "day", "experiment_group", "segment", "channel", "step_count", "step_time", "outcome",
    "target_per_day", "paced_target", "volume", "offer_count", "error", "integral", "quantile",
    "threshold",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ControlledCell:
    """A cell under a target."""

    cell: Cell
    state: State
    judgement: Judgement | None
    """None until something was offered."""
    version: int


@dataclass(frozen=True, slots=True)
class Volume:
    """Non-critical deliveries of a cell and day by what became of them, and the critical ones."""

    decided: int = 0
    sent: int = 0
    dropped: int = 0
    critical: int = 0

    @property
    def controlled(self) -> int:
        """Handed to channels plus in flight."""
        return self.decided - self.dropped

    @property
    def in_flight(self) -> int:
        """Decided and still on their way."""
        return self.decided - self.sent - self.dropped


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One step of one cell, as it is recorded."""

    before: ControlledCell
    reading: Reading
    step: Step
    judgement: Judgement | None


async def read_cells(work: UnitOfWork) -> list[ControlledCell]:
    """All cells under a target, by group, segment and channel."""
    return [_controlled(row) for row in await work.rows(_queries.read_cells)]


def thresholds_of(
    cells: Iterable[ControlledCell], default: float, band: float, floor: float | None
) -> Thresholds:
    """What decisions are held against."""
    known: dict[Cell, Judgement] = {}
    states: dict[Cell, State] = {}
    for one in cells:
        if one.judgement is not None:
            known[one.cell] = one.judgement
        if one.state.target > 0:
            states[one.cell] = one.state
    lowest = default if floor is None else max(default, floor)
    # The band is empty: without a target nothing says how near is near.
    return Thresholds(known, states, Judgement(lowest, lowest, lowest - 1.0), band, floor)


async def lock_cell(work: UnitOfWork, cell: Cell) -> ControlledCell | None:
    """A cell under a target, locked; None when it has none."""
    for row in await work.rows(_queries.lock_cell, _named(cell)):
        return _controlled(row)
    return None


async def put_target(
    work: UnitOfWork, cell: Cell, state: State, judgement: Judgement | None, now: datetime
) -> None:
    """Set a cell's target, with the state and the threshold that go with it."""
    held = {
        "threshold": judgement and judgement.threshold,
        "band_low": judgement and judgement.band_low,
        "band_high": judgement and judgement.band_high,
    }
    columns = {
        "per_day": state.target,
        "quantile": state.quantile,
        "integral": state.integral,
        "error": state.error,
        "now": now,
    }
    await work.execute(_queries.put_target, _named(cell) | columns)
    await work.execute(_queries.put_threshold, _named(cell) | columns | held)


async def open_thresholds(work: UnitOfWork, opened: Mapping[Cell, Judgement]) -> None:
    """Store the first thresholds of cells."""
    if opened:
        cells = sorted(opened)
        columns = _cell_columns(cells) | _judgement_columns([opened[cell] for cell in cells])
        await work.execute(_queries.open_thresholds, columns)


async def own(work: UnitOfWork) -> bool:
    """Become the one controller until the transaction ends; False when another is."""
    (row,) = await work.rows(_queries.try_own)
    return bool(row.owned)


async def store_steps(work: UnitOfWork, steps: Sequence[StoredStep], now: datetime) -> None:
    """Write the new states and record the steps. A cell that changed meanwhile keeps its state."""
    if not steps:
        return
    states = [one.step.state for one in steps]
    columns: dict[str, Any] = {
        "now": now,
        "versions": [one.before.version for one in steps],
        "quantiles": [state.quantile for state in states],
        "integrals": [state.integral for state in states],
        "errors": [state.error for state in states],
        "step_counts": [state.step_count for state in states],
    }
    columns |= _cell_columns([one.before.cell for one in steps])
    columns |= _judgement_columns([one.judgement for one in steps])
    changed = {
        Cell(row.experiment_group, row.segment, row.channel)
        for row in await work.rows(_queries.store_steps, columns)
    }
    day = now.astimezone(UTC).date()
    await ensure_day_partitions(work, "controller_steps", {day})
    rows = [_step_row(day, now, one) for one in steps if one.before.cell in changed]
    await work.copy("controller_steps", _STEP_COLUMNS, rows)


async def read_volume(work: UnitOfWork, day: date) -> dict[Cell, Volume]:
    """A UTC day's volume by cell."""
    counts: dict[Cell, dict[str, int]] = {}
    for row in await work.rows(_queries.sum_volume, {"day": day}):
        cell = Cell(row.experiment_group, row.segment, row.channel)
        counts.setdefault(cell, {})[row.kind] = int(row.total)
    return {cell: Volume(**kinds) for cell, kinds in counts.items()}


async def read_offers(work: UnitOfWork, now: datetime) -> dict[Cell, RecentOffers]:
    """What cells were offered lately."""
    since = now - READ_BACK
    asked = {"first_day": since.astimezone(UTC).date(), "since": since, "limit": READ_BATCHES}
    batches: dict[Cell, list[OfferBatch]] = {}
    for row in reversed(await work.rows(_queries.recent_offers, asked)):
        cell = Cell(row.experiment_group, row.segment, row.channel)
        batch = OfferBatch(row.record_time, row.offer_count, row.user_hashes, row.utilities)
        batches.setdefault(cell, []).append(batch)
    return {cell: RecentOffers(found) for cell, found in batches.items()}


async def read_offers_by_bin(work: UnitOfWork, day: date) -> dict[Cell, dict[date, Floats]]:
    """Offers of the days before `day`, by cell and day, each [BINS]."""
    asked = {"first_day": day - timedelta(days=CURVE_DAYS), "day": day}
    found: dict[Cell, dict[date, Floats]] = {}
    for row in await work.rows(_queries.offers_by_bin, asked):
        cell = Cell(row.experiment_group, row.segment, row.channel)
        counts = found.setdefault(cell, {}).setdefault(row.day, np.zeros(BINS))
        counts[min(max(row.bin, 0), BINS - 1)] += float(row.total)
    return found


async def read_slot_groups(work: UnitOfWork, default: tuple[int, ...]) -> list[SlotHours]:
    """Recipients by time zone and slot hours."""
    return [
        SlotHours(row.time_zone, _hours(row.slot_hours) or default, float(row.total))
        for row in await work.rows(_queries.slot_groups)
    ]


async def expected_offers(
    work: UnitOfWork, experiments: Experiments, today: date, default: tuple[int, ...]
) -> dict[Cell, float]:
    """Offers a day by the slots of the users whom each cell's channel reaches, from a sample of
    recipients."""
    sample = await work.rows(_queries.sample_recipients, {"limit": SAMPLED_RECIPIENTS})
    (all_rows,) = await work.rows(_queries.count_recipients)
    slots: Counter[tuple[str, Segment, int]] = Counter()
    for user_id, create_day, activity, activity_day, slot_hours, channels in map(tuple, sample):
        membership = experiments.membership(user_id)
        if not membership.holdout:
            active = ActiveDays.from_signed(activity_day or date.min, activity)
            segment = segment_of(create_day, active, today)
            hours = slot_hours.bit_count() or len(default)
            slots[membership.threshold_group, segment, channels] += hours
    found: defaultdict[Cell, float] = defaultdict(float)
    each = OFFERS_PER_SLOT * all_rows.total / max(len(sample), 1)
    for (group, segment, channels), count in slots.items():
        for channel in CHANNELS:
            if channels >> (channel - 1) & 1:
                found[Cell(group, segment, channel)] += count * each
    return found


async def put_objective(
    work: UnitOfWork, segment: str, weights: Sequence[HeadWeight], now: datetime
) -> None:
    """Set a segment's weights."""
    columns = {
        "segment": segment,
        "heads": [one.head for one in weights],
        "channels": [one.channel for one in weights],
        "weights": [one.weight for one in weights],
        "now": now,
    }
    await work.execute(_queries.put_objective, columns)


async def read_objectives(work: UnitOfWork) -> Objectives:
    """Weights by segment, those for every segment included."""
    found: dict[str, Sequence[HeadWeight]] = {ANY_SEGMENT: DEFAULT_WEIGHTS}
    for row in await work.rows(_queries.read_objectives):
        found[row.segment] = tuple(map(HeadWeight, row.heads, row.channels, row.weights))
    return Objectives(found)


def _controlled(row: Row[Any]) -> ControlledCell:
    state = State(row.quantile, row.integral, row.error, row.per_day, row.step_time, row.step_count)
    judgement = None
    if row.threshold is not None:
        judgement = Judgement(row.threshold, row.band_low, row.band_high)
    cell = Cell(row.experiment_group, row.segment, row.channel)
    return ControlledCell(cell, state, judgement, row.version)


def _step_row(day: date, now: datetime, one: StoredStep) -> tuple[object, ...]:
    reading, state = one.reading, one.step.state
    return (
        day,
        *one.before.cell,
        state.step_count,
        now,
        one.step.outcome,
        state.target,
        reading.paced * state.target,
        reading.volume,
        reading.offer_count,
        state.error,
        state.integral,
        state.quantile,
        one.judgement.threshold if one.judgement else None,
    )


def _named(cell: Cell) -> dict[str, object]:
    return {"group": cell.group, "segment": cell.segment, "channel": cell.channel}


def _cell_columns(cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "groups": [cell.group for cell in cells],
        "segments": [cell.segment for cell in cells],
        "channels": [cell.channel for cell in cells],
    }


def _judgement_columns(judgements: Sequence[Judgement | None]) -> dict[str, Any]:
    return {
        "thresholds": [one and one.threshold for one in judgements],
        "band_lows": [one and one.band_low for one in judgements],
        "band_highs": [one and one.band_high for one in judgements],
    }


def _hours(bits: int) -> tuple[int, ...]:
    return tuple(hour for hour in range(24) if bits >> hour & 1)
