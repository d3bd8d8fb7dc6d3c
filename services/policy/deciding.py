"""Deciding: rules, utility, arm, threshold, channel; from slots and users to decisions.

Pure, and deterministic: the same slots, users and configuration give the same decisions, for every
draw is a salted hash of user and slot.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np

from services.policy import choice
from services.policy.arms import ARMS, Arm, ArmShares, draw_arm, posterior, revealed
from services.policy.batch import Batch, Event, Floats, Send, Slot, Surroundings, User
from services.policy.channel_bits import CHANNELS
from services.policy.choice import NO_SEND, Atom, Exploration, Options
from services.policy.contexts import SlotRule
from services.policy.controller import Judgement
from services.policy.explaining import Trace, explanations
from services.policy.explanation import Explanation
from services.policy.ids import day_of_slot, decision_id, delivery_id
from services.policy.judging import Cell, Judged, Model, Offers, Thresholds, judge
from services.policy.outcomes import End, EventOutcome, blocked, events_left, outcomes
from services.policy.rules import Ruled, apply_rules
from services.policy.rules.caps_and_gaps import recent
from services.policy.rules.removal import KEPT
from services.runtime.hashing import unit_hash

DEFERRED = "DEFERRED"

_DEFERRED_TRACE = Trace(NO_SEND, Arm.POLICY, 1.0, judged=False)


@dataclass(frozen=True, slots=True)
class Randomness:
    """How decisions are drawn."""

    salt: str
    shares: ArmShares = field(default_factory=ArmShares)
    exploration: Exploration = field(default_factory=Exploration)


@dataclass(frozen=True, slots=True)
class Policy:
    """All that a batch is decided by."""

    around: Surroundings
    model: Model
    thresholds: Thresholds
    randomness: Randomness
    slots: SlotRule


@dataclass(slots=True)
class Decision:
    """The option taken for one slot."""

    slot: Slot
    user: User
    day: date
    decision_id: str
    """Empty: deferred, nothing was decided."""
    decide_time: datetime
    reason: str
    event: Event | None = None
    """None: no send."""
    channel: int = 0
    arm: Arm = Arm.POLICY
    arm_propensity: float = 1.0
    propensity: float = 1.0
    forced_by: str = ""
    utility: float = 0.0
    threshold: float = 0.0
    delivery_id: str = ""
    outcomes: Sequence[EventOutcome] = ()
    next_slots: Sequence[datetime] = ()
    explanation: Explanation | None = None

    @property
    def deferred(self) -> bool:
        """Not decided: to be tried again at the first of `next_slots`."""
        return self.reason == DEFERRED

    @property
    def critical(self) -> bool:
        """A critical event is sent: reported, not controlled, and outside caps."""
        return self.event is not None and self.event.event_type.critical

    @property
    def cell(self) -> Cell:
        """Where a send counts."""
        return Cell(self.user.membership.threshold_group, self.user.segment, self.channel)

    @property
    def ended_event(self) -> str:
        """The event that is not to be decided again: sent, or a ready one ended for good. Empty:
        none, or one that had ended before."""
        if self.event is not None:
            return self.event.event_id
        if not self.slot.ready or self.deferred or self.outcomes[0].reason == "DUPLICATE":
            return ""
        return self.slot.events[0].event_id


@dataclass(slots=True)
class Decided:
    """Decisions in the order of the slots, and what the batch offered."""

    decisions: list[Decision]
    offers: dict[Cell, Offers] = field(default_factory=dict)
    opened: dict[Cell, Judgement] = field(default_factory=dict)


def decide(slots: Sequence[Slot], users: Mapping[str, User], policy: Policy) -> Decided:
    """Decide all slots. Slots of one user are decided one after the other, in their order.

    Changes the users' fatigue and decided events as the decisions do.
    """
    found: dict[int, Decision] = {}
    result = Decided([])
    for indexes in _rounds(slots):
        batch = Batch([slots[index] for index in indexes], users, policy.around)
        one = _Round(batch, policy)
        for index, decision in zip(indexes, one.decisions(), strict=True):
            found[index] = decision
            _note(decision)
        for place, offers in one.judged.offers.items():
            known = result.offers.get(place)
            result.offers[place] = offers if known is None else known.joined(offers)
        result.opened = one.judged.opened | result.opened
    result.decisions = [found[index] for index in range(len(slots))]
    return result


def local_day(now: datetime, user: User) -> date:
    """The day an arm is drawn for: the user's local one, which never goes back, so that travel
    does not draw an arm again of which something is known."""
    today = now.astimezone(ZoneInfo(user.time_zone or "UTC")).date()
    return max(today, user.fatigue.arm_day or today)


def _rounds(slots: Sequence[Slot]) -> list[list[int]]:
    """Indexes of the slots, so that no user is twice in a round."""
    seen: Counter[str] = Counter()
    rounds: list[list[int]] = []
    for index, slot in enumerate(slots):
        number = seen[slot.user_id]
        seen[slot.user_id] += 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(index)
    return rounds


def _note(decision: Decision) -> None:
    """What a decision changes for the user's next ones."""
    user = decision.user
    if decision.ended_event:
        user.decided_events.add(decision.ended_event)
    if decision.event is not None and not decision.critical:
        send = Send(decision.decide_time, decision.channel, decision.delivery_id)
        kept = recent(user.fatigue.sends, decision.decide_time)
        user.fatigue.sends = sorted([*kept, send], key=lambda one: one.time)
        user.fatigue_changed = True


class _Round:
    """One slot per user."""

    def __init__(self, batch: Batch, policy: Policy) -> None:
        self.batch = batch
        self.policy = policy
        self.ruled: Ruled = apply_rules(batch)
        self.left = self.ruled.removed_by == KEPT
        self.judged: Judged = judge(batch, self.left, policy.model, policy.thresholds)
        self.events_left = events_left(batch, self.ruled)
        self.propensity: Floats = np.zeros(batch.size)
        self.traces = [_DEFERRED_TRACE] * len(batch.slots)

    def decisions(self) -> list[Decision]:
        """Decide all slots of the round."""
        found = [self._decision(slot) for slot in range(len(self.batch.slots))]
        heads = self.policy.model.heads
        told = explanations(
            self.batch, self.ruled, self.judged, self.propensity, heads, self.traces
        )
        for decision, explanation in zip(found, told, strict=True):
            decision.explanation = explanation
        return found

    def _decision(self, slot: int) -> Decision:
        options = self.batch.options_of(slot)
        left = [int(one) for one in np.flatnonzero(self.left[options]) + options.start]
        if not left:
            return self._without_option(slot)
        if self.batch.critical[left[0]]:  # critical types come in ready slots only, by themselves
            return self._critical(slot, left)
        if self.batch.users[slot].membership.holdout:
            return self._forced(slot, NO_SEND, "HOLDOUT", "holdout", Arm.HOLDOUT)
        return self._drawn(slot, left)

    def _without_option(self, slot: int) -> Decision:
        wait, rule = blocked(self.batch, self.ruled, slot)
        ready = self.batch.slots[slot].ready
        if ready and wait is not None and wait.until is not None:
            return self._deferred(slot, rule, wait.reason, wait.until)
        return self._forced(slot, NO_SEND, "NO_OPTION", rule, Arm.POLICY)

    def _deferred(self, slot: int, rule: str, reason: str, until: datetime) -> Decision:
        around = self.policy.around
        one = self.batch.slots[slot]
        return Decision(
            slot=one,
            user=self.batch.users[slot],
            day=day_of_slot(one.slot_time),
            decision_id="",
            decide_time=around.now,
            reason=DEFERRED,
            forced_by=rule,
            outcomes=[EventOutcome(one.events[0].event_id, End.STAYS, reason)],
            next_slots=[until],
        )

    def _critical(self, slot: int, left: list[int]) -> Decision:
        return self._forced(slot, self._preferred(left)[0], "CRITICAL", "critical", Arm.POLICY)

    def _preferred(self, left: Sequence[int]) -> list[int]:
        """A ready event's options, in its type's order of channels, the fallback last."""
        batch = self.batch
        order = batch.events[batch.event[left[0]]].event_type.channels
        fallback = self.judged.fallback
        return sorted(
            left, key=lambda one: (fallback[one], order.index(CHANNELS[batch.column[one]]))
        )

    def _forced(self, slot: int, option: int, reason: str, rule: str, arm: Arm) -> Decision:
        if option != NO_SEND:
            self.propensity[option] = 1.0
        no_send = 1.0 if option == NO_SEND else 0.0
        atom = Atom(1.0, option, reason)
        return self._made(slot, atom, arm, 1.0, 1.0, no_send, rule)

    def _drawn(self, slot: int, left: list[int]) -> Decision:
        """Draw the day's arm and, within it, the option."""
        randomness, user = self.policy.randomness, self.batch.users[slot]
        if self.batch.slots[slot].ready:
            left = self._preferred(left)
        options = self._options(slot, left)
        by_arm = choice.all_atoms(options, randomness.exploration)
        day = local_day(self.policy.around.now, user)
        fatigue = user.fatigue
        known = fatigue.arm_likelihoods if fatigue.arm_day == day else ()
        priors = randomness.shares.priors()
        overall, under = choice.propensities(by_arm, posterior(priors, known), len(left))
        arm = draw_arm(randomness.shares, randomness.salt, user.user_id, day)
        mark = unit_hash(randomness.salt, "draw", user.user_id, self.batch.slots[slot].slot_id)
        atom = choice.draw(by_arm[ARMS.index(arm)], mark)
        self.propensity[left] = overall[:-1]
        fatigue.arm_day = day
        fatigue.arm_likelihoods = revealed(known, under[:, atom.option].tolist())
        user.fatigue_changed = True
        return self._made(
            slot,
            Atom(
                atom.probability,
                NO_SEND if atom.option == NO_SEND else left[atom.option],
                atom.reason,
            ),
            arm,
            priors[ARMS.index(arm)],
            float(overall[atom.option]),
            float(overall[-1]),
            "",
            NO_SEND if options.ready else left[choice.judged(options)],
        )

    def _options(self, slot: int, left: Sequence[int]) -> Options:
        judged, index = self.judged, np.asarray(left)
        column = self.batch.column[index]
        utility = judged.utility[index]
        ready = self.batch.slots[slot].ready
        low, high = judged.band_low[slot, column], judged.band_high[slot, column]
        return Options(
            utility=utility.tolist(),
            margin=(utility - judged.threshold[slot, column]).tolist(),
            in_band=((utility >= low) & (utility <= high)).tolist(),
            column=column.tolist(),
            fallback=judged.fallback[index].tolist(),
            ready=ready,
        )

    def _made(
        self,
        slot: int,
        atom: Atom,
        arm: Arm,
        arm_propensity: float,
        propensity: float,
        no_send: float,
        forced_by: str,
        weighed: int = NO_SEND,
    ) -> Decision:
        batch, judged, around = self.batch, self.judged, self.policy.around
        one, user = batch.slots[slot], batch.users[slot]
        option = atom.option
        sent = option != NO_SEND
        event = int(batch.event[option]) if sent else NO_SEND
        column = int(batch.column[option]) if sent else 0
        shown = option if sent else weighed
        is_judged = weighed != NO_SEND
        day = day_of_slot(one.slot_time)
        name = decision_id(day, user.user_id, one.slot_id)
        channel = CHANNELS[column] if sent else 0
        ends = outcomes(batch, self.ruled, self.events_left, slot, event, atom.reason)
        if one.ready and not sent and ends[0].end is End.STAYS:
            ends = [EventOutcome(ends[0].event_id, End.SUPPRESSED, atom.reason)]
        after = max(around.now, one.slot_time)
        self.traces[slot] = Trace(option, arm, no_send, is_judged)
        return Decision(
            slot=one,
            user=user,
            day=day,
            decision_id=name,
            decide_time=around.now,
            reason=atom.reason,
            event=batch.events[event] if sent else None,
            channel=channel,
            arm=arm,
            arm_propensity=arm_propensity,
            propensity=propensity,
            forced_by=forced_by,
            utility=float(judged.utility[option]) if sent and is_judged else 0.0,
            threshold=float(judged.threshold[slot, batch.column[shown]]) if is_judged else 0.0,
            delivery_id=delivery_id(name, channel) if sent else "",
            outcomes=ends,
            next_slots=self.policy.slots.next_slots(after, user.time_zone, user.slot_hours),
        )
