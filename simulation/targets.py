"""Volume targets of the replay: sends per user and day, split over segments and channels.

The target counts users that push or e-mail reaches. One whom both reach is asked for with 70 % push
and 30 % e-mail, one whom a single channel reaches with that channel alone. A segment's target is
the sum over its users, set anew each morning for the segments as they then are. A segment without
users gets 0: who comes into it during the day is sent nothing more by push or e-mail before the
next morning. The in-app inbox has no target: there it is a fallback.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from heliograph.policy.v1alpha1 import policy_pb2
from heliograph.type.v1alpha1 import notification_pb2

from simulation.connection import LONG_CALL_S, Services, batches
from simulation.populate import EMAIL, PUSH
from simulation.recipients import Reach

PUSH_SPLIT = 0.7
SEGMENTS = ("new", "core", "casual", "marginal", "dormant", "resurrected")

Cell: TypeAlias = "tuple[str, notification_pb2.Channel.ValueType]"
"""Segment and channel."""


def split(
    reaches: Sequence[Reach],
    turned_off: "Collection[tuple[int, notification_pb2.Channel.ValueType]]",
    segments: Mapping[int, str],
    per_user_day: float,
) -> dict[Cell, float]:
    """Sends a day for each segment and channel, from sends per user and day.

    `turned_off` holds the (user, channel) that users have turned off since; `segments` the segment
    of each user. Users by position.
    """
    targets: dict[Cell, float] = {
        (segment, channel): 0.0 for segment in SEGMENTS for channel in (PUSH, EMAIL)
    }
    for reach in reaches:
        push = reach.push and (reach.user, PUSH) not in turned_off
        email = reach.email and (reach.user, EMAIL) not in turned_off
        if not push and not email:
            continue
        share = PUSH_SPLIT if push and email else float(push)
        segment = segments[reach.user]
        targets[segment, PUSH] += per_user_day * share
        targets[segment, EMAIL] += per_user_day * (1 - share)
    return targets


async def user_segments(services: Services, user_ids: Sequence[str]) -> dict[int, str]:
    """The present segment of each user, by position. Unknown users are left out."""
    position = {user_id: row for row, user_id in enumerate(user_ids)}
    found: dict[int, str] = {}
    for batch in batches(user_ids, 1000):
        answer = await services.policy.GetUserContexts(
            policy_pb2.GetUserContextsRequest(user_ids=batch), timeout=LONG_CALL_S
        )
        found.update({position[user.user_id]: user.segment for user in answer.contexts})
    return found


async def set_targets(services: Services, day: str, targets: Mapping[Cell, float]) -> None:
    """Set the targets of a day in the default experiment group."""
    for (segment, channel), per_day in sorted(targets.items()):
        cell = policy_pb2.Cell(segment=segment, channel=channel)
        await services.policy.SetTarget(
            policy_pb2.SetTargetRequest(
                request_id=f"replay:{day}:{segment}:{channel}",
                target=policy_pb2.Target(cell=cell, per_day=per_day),
            )
        )
