"""Decisions and their explanations as messages."""

from collections.abc import Sequence

from heliograph.policy.v1alpha1 import decide_pb2, explanation_pb2, feed_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.policy.channel_bits import PUSH, bit
from services.policy.deciding import Decision
from services.policy.explanation import Explanation, Option
from services.policy.feed_entries import Entry
from services.policy.timestamps import timestamp

Channel = notification_pb2.Channel.ValueType
Arm = notification_pb2.Arm.ValueType
Head = notification_pb2.Head.ValueType
End = notification_pb2.EventEnd.ValueType


def decision_message(decision: Decision) -> decide_pb2.Decision:
    """The answer to Decide."""
    user, slot, event = decision.user, decision.slot, decision.event
    return decide_pb2.Decision(
        decision_id=decision.decision_id,
        user_id=user.user_id,
        slot_id=slot.slot_id,
        slot_time=timestamp(slot.slot_time),
        decide_time=timestamp(decision.decide_time),
        send=event is not None,
        event_id=event.event_id if event else "",
        event_type=event.event_type.name if event else "",
        channel=Channel(decision.channel),
        reason=decision.reason,
        arm=Arm(decision.arm),
        arm_propensity=decision.arm_propensity,
        propensity=decision.propensity,
        forced=bool(decision.forced_by),
        forced_by=decision.forced_by,
        utility=decision.utility,
        threshold=decision.threshold,
        segment=user.segment,
        experiment_group=user.membership.threshold_group,
        rank_id=slot.rank_id,
        model_version=slot.model_version,
        delivery_id=decision.delivery_id,
        outcomes=[
            decide_pb2.EventOutcome(event_id=one.event_id, end=End(one.end), reason=one.reason)
            for one in decision.outcomes
        ],
        next_slot_times=[timestamp(time) for time in decision.next_slots],
    )


def feed_entry(decision: Decision) -> Entry:
    """The decision as the feed tells it."""
    user, slot, event = decision.user, decision.slot, decision.event
    entry = feed_pb2.FeedEntry(
        event_time=timestamp(decision.decide_time),
        user_id=user.user_id,
        decision=feed_pb2.DecisionEntry(
            decision_id=decision.decision_id,
            slot_id=slot.slot_id,
            rank_id=slot.rank_id,
            send=event is not None,
            event_id=event.event_id if event else "",
            event_type=event.event_type.name if event else "",
            item_ids=event.item_ids if event else (),
            channel=Channel(decision.channel),
            arm=Arm(decision.arm),
            propensity=decision.propensity,
            forced=bool(decision.forced_by),
            segment=user.segment,
            experiment_group=user.membership.threshold_group,
            push_disabled=not user.opt_ins & bit(PUSH),
        ),
    )
    return Entry(user.user_id, entry.SerializeToString())


def explanation_messages(
    explanation: Explanation,
) -> tuple[list[explanation_pb2.OptionExplanation], list[explanation_pb2.RuleStep]]:
    """Options, no send included, best first; and the rules in their order."""
    options = [_option(one) for one in explanation.listed()]
    no_send = explanation_pb2.OptionExplanation(propensity=explanation.no_send_propensity)
    left = sum(1 for one in options if not one.removed_by)
    worse = [at for at, one in enumerate(options[:left]) if one.utility < one.threshold]
    options.insert(worse[0] if worse else left, no_send)
    steps = [
        explanation_pb2.RuleStep(
            rule=step.rule, removed_count=step.removed_count, left_count=step.left_count
        )
        for step in explanation.steps()
    ]
    return options, steps


def heads_of(explanation: Explanation) -> Sequence[notification_pb2.Head.ValueType]:
    """The columns of the options' scores."""
    return [Head(head) for head in explanation.heads]


def _option(option: Option) -> explanation_pb2.OptionExplanation:
    return explanation_pb2.OptionExplanation(
        event_id=option.event_id,
        event_type=option.event_type,
        channel=Channel(option.channel),
        removed_by=option.removed_by,
        detail=option.detail,
        utility=option.utility,
        threshold=option.threshold,
        propensity=option.propensity,
        scores=option.scores,
    )
