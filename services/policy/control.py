"""The controller's tick: reads volume and offers, steps every cell, writes the thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import numpy as np

from services.policy import control_store
from services.policy.batch import Floats
from services.policy.control_store import ControlledCell, StoredStep, Volume
from services.policy.controller import (
    Judgement,
    Reading,
    State,
    Step,
    judgement,
    retarget,
    start,
    step,
)
from services.policy.experiment_store import ExperimentStore
from services.policy.judging import Cell
from services.policy.pacing import BINS, Curve, curve, flat, slots_by_bin, with_channel
from services.policy.recent_offers import RecentOffers
from services.policy.settings import PolicySettings
from services.runtime import metrics
from services.runtime.database import Database, UnitOfWork

NO_OFFERS = RecentOffers()


@dataclass(frozen=True, slots=True)
class Prospect:
    """What the rest of the day is expected to bring."""

    curves: Mapping[Cell, Curve]
    """Pacing curves of the cells that were offered something before."""
    slots: Curve
    """The pacing curve of all others."""
    offers: Mapping[Cell, float]
    """Offers a day; cells without users are missing."""

    def curve(self, cell: Cell) -> Curve:
        """The pacing curve of a cell."""
        return self.curves.get(cell, self.slots)


class Outlook:
    """Works out the prospect anew once an hour of the clock, and when asked to."""

    def __init__(self, settings: PolicySettings, experiments: ExperimentStore) -> None:
        self._settings = settings
        self._experiments = experiments
        self._read_at: datetime | None = None
        self._known = Prospect({}, flat(), {})

    async def read(self, work: UnitOfWork, now: datetime, *, fresh: bool = False) -> Prospect:
        """The prospect on the UTC day of `now`, as it was this hour or, `fresh`, as it is now.

        Targets are set in bursts, at one moment in simulation mode: then it is read once.
        """
        known = self._read_at
        if known is None or _hour(known) != _hour(now) or (fresh and known != now):
            self._known = await self._read(work, now.astimezone(UTC).date())
            self._read_at = now
        return self._known

    async def _read(self, work: UnitOfWork, day: date) -> Prospect:
        hours = self._settings.slot_hours
        slots = slots_by_bin(await control_store.read_slot_groups(work, hours), day)
        seen = await control_store.read_offers_by_bin(work, day)
        curves = {cell: curve(slots, days) for cell, days in _filled_up(seen).items()}
        experiments = await self._experiments.current(work)
        offers = await control_store.expected_offers(work, experiments, day, hours)
        return Prospect(curves, curve(slots, []), offers)


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _filled_up(seen: Mapping[Cell, Mapping[date, Floats]]) -> dict[Cell, list[Floats]]:
    """Offers by cell, a list of days, with those of the whole channel where a cell had few."""
    channels: dict[tuple[int, date], Floats] = {}
    for cell, days in seen.items():
        for day, counts in days.items():
            key = (cell.channel, day)
            channels[key] = channels.get(key, np.zeros(BINS)) + counts
    return {
        cell: [with_channel(counts, channels[cell.channel, day]) for day, counts in days.items()]
        for cell, days in seen.items()
    }


class Controller:
    """Moves the thresholds of all cells under a target."""

    def __init__(
        self,
        database: Database,
        settings: PolicySettings,
        outlook: Outlook,
    ) -> None:
        self._database = database
        self._settings = settings
        self._outlook = outlook
        labels = ["experiment_group", "segment", "channel"]
        self._error = metrics.gauge(
            "policy", "volume_error", "ratio", "(Pacing curve - volume) / target.", labels
        )
        self._threshold = metrics.gauge(
            "policy", "threshold", "utility", "Utility from which a cell sends.", labels
        )

    async def tick(self, now: datetime) -> None:
        """One step of every cell, unless another process is at it."""
        async with self._database.unit_of_work() as work:
            if not await control_store.own(work):
                return
            cells = await control_store.read_cells(work)
            if not cells:
                return
            steps = await self._steps(work, cells, now)
            await control_store.store_steps(work, steps, now)
            await work.commit()
        for one in steps:
            labels = [str(part) for part in one.before.cell]
            self._error.labels(*labels).set(one.step.state.error)
            if one.judgement is not None:
                self._threshold.labels(*labels).set(one.judgement.threshold)

    async def _steps(
        self, work: UnitOfWork, cells: list[ControlledCell], now: datetime
    ) -> list[StoredStep]:
        day = now.astimezone(UTC).date()
        volume = await control_store.read_volume(work, day)
        offers = await control_store.read_offers(work, now)
        prospect = await self._outlook.read(work, now)
        found = []
        for one in cells:
            offered = offers.get(one.cell, NO_OFFERS)
            booked = volume.get(one.cell, Volume())
            reading = self._reading(one, prospect, booked, offered, now)
            found.append(self._step(one, reading, offered))
        return found

    async def set_target(self, work: UnitOfWork, cell: Cell, per_day: float, now: datetime) -> None:
        """Put a cell under a target, or change it; acts on the next decision."""
        known = await control_store.lock_cell(work, cell)
        expected = (await self._outlook.read(work, now, fresh=True)).offers.get(cell, 0.0)
        gains = self._settings.gains
        if known is None:
            state = start(per_day, expected, gains)
        else:
            state = retarget(known.state, per_day, expected, gains)
        offers = await control_store.read_offers(work, now)
        held = self._judged(state, offers.get(cell, NO_OFFERS), now)
        await control_store.put_target(work, cell, state, held, now)

    def _reading(
        self,
        one: ControlledCell,
        prospect: Prospect,
        volume: Volume,
        offered: RecentOffers,
        now: datetime,
    ) -> Reading:
        pacing = prospect.curve(one.cell)
        paced = pacing.at(now)
        last = one.state.step_time
        same_day = last is not None and last.astimezone(UTC).date() == now.astimezone(UTC).date()
        before = pacing.at(last) if last is not None and same_day else 0.0
        return Reading(
            now=now,
            paced=paced,
            progress=max(0.0, paced - before),
            burst=pacing.burst,
            volume=volume.controlled,
            offer_count=offered.since(last),
            expected_offers=prospect.offers.get(one.cell, 0.0),
        )

    def _step(self, one: ControlledCell, reading: Reading, offered: RecentOffers) -> StoredStep:
        gains = self._settings.gains
        if one.judgement is None and not offered.batches:
            # Nothing was offered yet, so nothing lags: only what is expected may have changed.
            first = retarget(one.state, one.state.target, reading.expected_offers, gains)
            count = one.state.step_count + 1
            kept = replace(first, step_time=reading.now, step_count=count)
            return StoredStep(one, reading, Step(kept, "NOTHING_OFFERED"), None)
        made = step(one.state, reading, gains)
        held = self._judged(made.state, offered, reading.now) or one.judgement
        return StoredStep(one, reading, made, held)

    def _judged(self, state: State, offered: RecentOffers, now: datetime) -> Judgement | None:
        settings = self._settings
        ahead = offered.ahead(now)
        return judgement(state, ahead, band=settings.threshold_band, floor=settings.utility_floor)
