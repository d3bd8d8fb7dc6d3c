"""The loop: arrivals become slots, ready events and due slots are decided, deliveries go out.

Every stage takes one batch at a time under a lease, and may be killed anywhere. The lease runs out
(or is given back), another pacer takes the batch over, and natural keys make the repetition
harmless. What a crash leaves between each two steps:

====================================  ==============================================================
crash after                           then
====================================  ==============================================================
ReadArrivals                          the cursor has not moved: the same arrivals are read again
slots made                            the cursor moved in the same transaction: nothing to repeat
LeaseReady                            the lease runs out; the events are leased again
Decide (ready event)                  leased again; Decide answers the stored decision by
                                      (user, `event:<id>`), and SettleReady records its end
SettleReady                           ended, or back in the queue: nothing to repeat
slot leased                           the lease runs out; the slot is still due
ReadPool, GetUserContexts, Rank       nothing was changed; features kept for Rank expire
Decide (slot)                         the slot is leased again; Rank runs again, its scores are
                                      ignored: Decide answers the stored decision by (user, slot)
SettlePool                            leased again: same decision, and the first end of each event
                                      stands. If no event is left the slot closes without decision
                                      id; the decision itself stands in policy
slot closed                           the next slot was opened in the same transaction
LeaseDeliveries                       the lease runs out; policy leases the delivery again
CheckEvents                           leased and checked again: what is withdrawn stays withdrawn
PickVariants                          the choice is stored: the same words again
adapter has delivered                 delivered again with the same key, which the adapter knows
attempt recorded                      the attempt stands, one more follows
AckDeliveries                         ended, or due later: nothing to repeat
====================================  ==============================================================

An event that arrives while its user's slot is held could be missed by the pool's reader and then
have no slot to wait for. So arrivals flag the waiting slot; leasing clears the flag before the pool
is read, and closing opens a next slot when it finds the flag set.

Hold rule (invariant 11): when a service is down, the stage gives its batch back and pauses; slots,
ready events and deliveries stay due, the other stages go on, and `heliograph_pacer_holds_total`
counts it. In simulation mode leases are in simulated time, so a batch lost to a crash is free again
once the simulated clock has passed the lease.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.pacer.backoff import Pauses
from services.pacer.leases import Held
from services.pacer.report import Report
from services.pacer.settings import PacerSettings
from services.pacer.stages.arrivals import Arrivals
from services.pacer.stages.deliveries import Deliveries
from services.pacer.stages.ready import Ready
from services.pacer.stages.slots import MOST_USERS, Slots
from services.runtime.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Stages:
    """The four stations."""

    arrivals: Arrivals
    ready: Ready
    slots: Slots
    deliveries: Deliveries


class Wake:
    """Lets one stage cut short the pause of another."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """End the pause, or skip the next one."""
        self._event.set()

    async def pause(self, seconds: float) -> None:
        """Wait, at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


class Loop:
    """Runs the stages: for one pass, or for ever."""

    def __init__(self, settings: PacerSettings, stages: Stages, wake: Wake) -> None:
        self._settings = settings
        self._stages = stages
        self._wake = wake

    async def run_pass(self, user_ids: Sequence[str] = (), limit: int = 0) -> Report:
        """Take all that is due now, stage by stage, until nothing is left.

        With `user_ids` only the slots of these users, each once and due or not. `limit` is the most
        slots, 0 for all. What one stage holds does not keep the others from going on; then raises
        Unavailable (`HELD`) at the end, and the same call does the rest later.
        """
        report, held = Report(), []
        stages = self._stages
        runs: Sequence[Callable[[], Awaitable[None]]] = (
            lambda: _drain(stages.arrivals.step, report),
            lambda: _drain(stages.ready.step, report),
            lambda: self._slots(report, user_ids, limit),
            lambda: _drain(stages.deliveries.step, report),
        )
        for run in runs:
            try:
                await run()
            except Held as hold:
                held.append(hold)
        if held:
            raise Unavailable(
                "; ".join(map(str, held)),
                reason="HELD",
                metadata={hold.stage: hold.reason for hold in held},
            ) from held[0]
        return report

    async def _slots(self, report: Report, user_ids: Sequence[str], limit: int) -> None:
        slots = self._stages.slots
        left = limit or None
        if user_ids:
            users = sorted(set(user_ids))[:left]
            size = min(MOST_USERS, self._settings.batch_slots)
            for first in range(0, len(users), size):
                await slots.step_users(report, users[first : first + size])
            return
        while left is None or left > 0:
            taken = await slots.step(report, left)
            if not taken:
                return
            left = None if left is None else left - taken

    async def run_arrivals(self) -> None:
        """Make slots of arrivals for ever."""
        await self._forever(self._stages.arrivals.step)

    async def run_ready(self) -> None:
        """Take ready events for ever."""
        await self._forever(self._stages.ready.step)

    async def run_slots(self) -> None:
        """Take due slots for ever."""
        await self._forever(self._stages.slots.step)

    async def run_deliveries(self) -> None:
        """Take deliveries for ever; a decision that sends ends the pause."""
        await self._forever(self._stages.deliveries.step, self._wake)

    async def _forever(
        self, step: Callable[[Report], Awaitable[bool | int]], wake: Wake | None = None
    ) -> None:
        settings = self._settings
        pauses = Pauses(settings.shortest_pause, settings.longest_pause, settings.longest_hold)
        wake = wake or Wake()
        while True:
            try:
                seconds = pauses.worked() if await step(Report()) else pauses.idle()
            except Held:
                await asyncio.sleep(pauses.held(random.random()))
                continue
            await wake.pause(seconds)


async def _drain(step: Callable[[Report], Awaitable[bool]], report: Report) -> None:
    while await step(report):
        pass
