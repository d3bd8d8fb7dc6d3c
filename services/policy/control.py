"""The controller's tick: reads volume and offers, steps every cell, writes the thresholds."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np

from services.policy import control_store
from services.policy.control_store import ControlledCell, RecentOffers, StoredStep, Volume
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
from services.policy.pacing import Curve, curve, slots_by_bin
from services.policy.settings import PolicySettings
from services.runtime import metrics
from services.runtime.database import Database, UnitOfWork

NO_OFFERS = RecentOffers(np.zeros(0), ())
UNKNOWN_SHARE = 0.1
"""Share of offers sent by a cell of which neither recipients nor offers are known."""


class PacingCurves:
    """The pacing curve of each channel, worked out anew once an hour of the clock."""

    def __init__(self, settings: PolicySettings) -> None:
        self._settings = settings
        self._hour: datetime | None = None
        self._curves: dict[int, Curve] = {}

    async def read(self, work: UnitOfWork, now: datetime) -> dict[int, Curve]:
        """Curves of the UTC day of `now`, by channel."""
        hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if hour != self._hour:
            self._curves = await self.of_day(work, hour.date())
            self._hour = hour
        return self._curves

    async def of_day(self, work: UnitOfWork, day: date) -> dict[int, Curve]:
        """Curves of a UTC day, by channel."""
        groups = await control_store.read_slot_groups(work, self._settings.slot_hours)
        slots = slots_by_bin(groups, day)
        offers = await control_store.read_offers_by_bin(work, day)
        return {channel: curve(slots, offers.get(channel, [])) for channel in (1, 2, 3)}


class Controller:
    """Moves the thresholds of all cells under a target."""

    def __init__(
        self,
        database: Database,
        settings: PolicySettings,
        experiments: ExperimentStore,
        curves: PacingCurves,
    ) -> None:
        self._database = database
        self._settings = settings
        self._experiments = experiments
        self._curves = curves
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
        offers = await control_store.read_offers(work, now, self._settings.offer_window)
        curves = await self._curves.read(work, now)
        expected: dict[Cell, float] = {}
        if any(one.judgement is None for one in cells):
            expected = await self._expected(work, now)
        found = []
        for one in cells:
            offered = offers.get(one.cell, NO_OFFERS)
            reading = self._reading(
                one,
                curves[one.cell.channel],
                volume.get(one.cell, Volume()),
                offered,
                now,
            )
            found.append(self._step(one, reading, offered, expected.get(one.cell, 0.0)))
        return found

    async def set_target(self, work: UnitOfWork, cell: Cell, per_day: float, now: datetime) -> None:
        """Put a cell under a target, or change it; acts on the next decision."""
        known = await control_store.lock_cell(work, cell)
        expected = 0.0
        if known is None or known.state.target == 0:
            expected = (await self._expected(work, now)).get(cell, 0.0)
        if known is None:
            state = self._start(per_day, expected)
        else:
            guess = expected or per_day / UNKNOWN_SHARE
            state = retarget(known.state, per_day, guess, self._settings.gains)
        offers = await control_store.read_offers(work, now, self._settings.offer_window)
        held = self._judged(state, offers.get(cell, NO_OFFERS))
        await control_store.put_target(work, cell, state, held, now)

    async def _expected(self, work: UnitOfWork, now: datetime) -> dict[Cell, float]:
        """Offers expected a day, for first states."""
        experiments = await self._experiments.current(work)
        today = now.astimezone(UTC).date()
        return await control_store.expected_offers(
            work, experiments, today, self._settings.slot_hours
        )

    def _reading(
        self,
        one: ControlledCell,
        pacing: Curve,
        volume: Volume,
        offered: RecentOffers,
        now: datetime,
    ) -> Reading:
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
        )

    def _step(
        self, one: ControlledCell, reading: Reading, offered: RecentOffers, expected: float
    ) -> StoredStep:
        if one.judgement is None and not len(offered.utilities):
            # Nothing was offered yet, so nothing lags: only what is expected may have changed.
            first = self._start(one.state.target, expected)
            count = one.state.step_count + 1
            kept = replace(first, step_time=reading.now, step_count=count)
            return StoredStep(one, reading, Step(kept, "NOTHING_OFFERED"), None)
        made = step(one.state, reading, self._settings.gains)
        return StoredStep(one, reading, made, self._judged(made.state, offered) or one.judgement)

    def _start(self, target: float, expected: float) -> State:
        return start(target, expected or target / UNKNOWN_SHARE, self._settings.gains)

    def _judged(self, state: State, offered: RecentOffers) -> Judgement | None:
        settings = self._settings
        return judgement(
            state, offered.utilities, band=settings.threshold_band, floor=settings.utility_floor
        )
