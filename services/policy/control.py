"""The controller's tick: reads volume and offers, steps every cell, writes the thresholds."""

from dataclasses import replace
from datetime import UTC, date, datetime

from services.policy import control_store
from services.policy.control_store import ControlledCell, RecentOffers, StoredStep, Volume
from services.policy.controller import Reading, Step, judgement, start, step
from services.policy.experiment_store import ExperimentStore
from services.policy.judging import Cell
from services.policy.pacing import Curve, curve, slots_by_bin
from services.policy.settings import PolicySettings
from services.runtime import metrics
from services.runtime.database import Database, UnitOfWork

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
        if any(one.per_day and (one.judgement is None or one.state.target == 0) for one in cells):
            expected = await self.expected(work, now)
        found = []
        for one in cells:
            offered = offers.get(one.cell, RecentOffers(curves[1].shares[:0], ()))
            reading = self._reading(
                one,
                curves[one.cell.channel],
                volume.get(one.cell, Volume()),
                offered,
                expected.get(one.cell, 0.0),
                now,
            )
            found.append(self._step(one, reading, offered))
        return found

    async def expected(self, work: UnitOfWork, now: datetime) -> dict[Cell, float]:
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
        expected: float,
        now: datetime,
    ) -> Reading:
        paced = pacing.at(now)
        last = one.state.step_time
        same_day = last is not None and last.astimezone(UTC).date() == now.astimezone(UTC).date()
        before = pacing.at(last) if last is not None and same_day else 0.0
        return Reading(
            now=now,
            target=one.per_day,
            paced=paced,
            progress=max(0.0, paced - before),
            burst=pacing.burst,
            volume=volume.controlled,
            offer_count=offered.since(last),
            expected_offers=expected or one.per_day / UNKNOWN_SHARE,
        )

    def _step(self, one: ControlledCell, reading: Reading, offered: RecentOffers) -> StoredStep:
        settings, before = self._settings, one.state
        made = step(before, reading, settings.gains)
        if one.judgement is None and not len(offered.utilities):
            # Nothing was offered yet, so nothing lags: only what is expected may have changed.
            first = start(reading.target, reading.expected_offers, settings.gains)
            made = Step(
                replace(first, step_time=reading.now, step_count=before.step_count + 1),
                "NOTHING_OFFERED",
            )
        held = judgement(
            made.state,
            offered.utilities,
            band=settings.threshold_band,
            floor=settings.utility_floor,
        )
        return StoredStep(one, reading, made, held or one.judgement)
