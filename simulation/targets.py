"""Volume targets of the replay: sends per user and day, split over segments and channels.

Each user's share is split over the channels that reach them, push to e-mail to in-app as 5 : 2 : 3.
A segment's target is the sum over its users, set anew each morning for the segments as they then
are. A segment without users gets 0: who comes into it during the day is sent nothing more before
the next morning.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from heliograph.policy.v1alpha1 import control_pb2, recipients_pb2
from heliograph.type.v1alpha1 import notification_pb2

from simulation.connection import LONG_CALL_S, Services, batches
from simulation.populate import EMAIL, IN_APP, PUSH
from simulation.recipients import Reach

SEGMENTS = ("new", "core", "casual", "marginal", "dormant", "resurrected")

Cell: TypeAlias = "tuple[str, notification_pb2.Channel.ValueType]"
"""Segment and channel."""

SPLIT = {PUSH: 0.5, EMAIL: 0.2, IN_APP: 0.3}
"""How a user's sends are split when all channels reach them."""


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
        (segment, channel): 0.0 for segment in SEGMENTS for channel in SPLIT
    }
    for reach in reaches:
        reached = {PUSH: reach.push, EMAIL: reach.email, IN_APP: True}
        open_channels = [
            channel
            for channel, opted_in in reached.items()
            if opted_in and (reach.user, channel) not in turned_off
        ]
        whole = sum(SPLIT[channel] for channel in open_channels)
        for channel in open_channels:
            targets[segments[reach.user], channel] += per_user_day * SPLIT[channel] / whole
    return targets


async def user_segments(services: Services, user_ids: Sequence[str]) -> dict[int, str]:
    """The present segment of each user, by position. Unknown users are left out."""
    position = {user_id: row for row, user_id in enumerate(user_ids)}
    found: dict[int, str] = {}
    for batch in batches(user_ids, 1000):
        answer = await services.policy.GetUserContexts(
            recipients_pb2.GetUserContextsRequest(user_ids=batch), timeout=LONG_CALL_S
        )
        found.update({position[user.user_id]: user.segment for user in answer.contexts})
    return found


async def set_targets(services: Services, day: str, targets: Mapping[Cell, float]) -> None:
    """Set the targets of a day in the default experiment group."""
    for (segment, channel), per_day in sorted(targets.items()):
        cell = control_pb2.Cell(segment=segment, channel=channel)
        await services.policy.SetTarget(
            control_pb2.SetTargetRequest(
                request_id=f"replay:{day}:{segment}:{channel}",
                target=control_pb2.Target(cell=cell, per_day=per_day),
            )
        )
