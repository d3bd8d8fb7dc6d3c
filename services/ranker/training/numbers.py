"""What the model reads from counts, sequences and times as plain numbers, besides the raw arrays.

Each number says outright what a net would need much data to find: rates per send in place of two
counts, how near past steps lie to this hour of the day, how recent they are.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from services.ranker.features.events import PRIOR_OPENS, PRIOR_SENDS
from services.ranker.features.schema import (
    PROFILE_NUMBERS,
    SEQUENCES,
    TYPE_COUNTS,
    WINDOWS_HOURS,
)
from services.ranker.features.vocabulary import Channel, Counter

CHANNELS = len(Channel) - 1
BELIEVED_HITS, BELIEVED_SENDS = 1.0, 8.0
"""How much of a rate is believed before anything was sent."""
MEMORY_HOURS = (6.0, 24.0, 72.0)
"""Over which the recent past fades."""
NEARNESS = ((24.0, 3.0), (24.0, 12.0), (168.0, 3.0))
"""Periods in hours, and concentrations of the von Mises kernels by which past steps are near."""
EVEN = tuple(float(np.i0(k) * np.exp(-k)) for _, k in NEARNESS)
"""What a kernel comes to where steps are spread evenly."""
BELIEVED_STEPS = 2.0
"""Evenly spread steps that are believed beside a user's own."""
PENDING_HOURS = 1.0
"""Younger steps say nothing of habits: they are of this very visit."""
LEAST_SHARE = 0.1
NEVER_HOURS = 2000.0
USER_NUMBERS = (
    (len(Counter) + 2 * (CHANNELS + 1)) * len(WINDOWS_HOURS)
    + len(SEQUENCES) * (len(MEMORY_HOURS) + 2)
    + len(SEQUENCES) * len(NEARNESS)
)
TIME_NUMBERS = 2 * len(PROFILE_NUMBERS) - 1
EVENT_ROW_NUMBERS = 7
TYPE_NUMBERS = len(TYPE_COUNTS) + 2


def user_numbers(inputs: Mapping[str, Tensor]) -> Tensor:
    """Counts, rates, and what the sequences say of habits [U, USER_NUMBERS]."""
    counts = inputs["counts"].float()
    parts = [torch.log1p(counts), *_rates(counts)]
    found = [part.flatten(1) for part in parts]
    ages, kinds = (
        torch.stack([inputs[f"{name}_{feature}"] for name in SEQUENCES], dim=1)
        for feature in ("ages", "kinds")
    )
    hours, there = ages.float() / 3600, (kinds > 0).float()  # [U, sequences, L], newest first
    habits = torch.cat([_recency(hours, there), _nearness(hours, there)], dim=2)
    return torch.cat([*found, habits.flatten(1)], dim=1)


def time_numbers(inputs: Mapping[str, Tensor]) -> Tensor:
    """The profile at the delivery hour, and its logs [U, TIME_NUMBERS]."""
    profile = finite(inputs["hour_profile"])
    return torch.cat([profile, torch.log(profile[:, 1:].clamp(min=0) + LEAST_SHARE)], dim=1)


def event_numbers(inputs: Mapping[str, Tensor]) -> Tensor:
    """Of each event [N, EVENT_ROW_NUMBERS]: the source's score, log age, items, age, the log of the
    item's opens per send, its mean score, and how far the score lies above that. How often it was
    sent is not told in any form: that grows beyond all that training saw."""
    numbers = finite(inputs["event_numbers"])
    score_age_items, sends = numbers[:, :3], torch.exp(numbers[:, 3:4]) - 1  # ONNX has no expm1
    opens = (numbers[:, 4:5] * (sends + PRIOR_SENDS) - PRIOR_OPENS).clamp(min=0)
    days = (torch.exp(numbers[:, 1:2]) - 1) / 24
    mean = numbers[:, 6:7]
    above = torch.where(numbers[:, :1] > 0, numbers[:, :1] - mean, 0.0)
    rate = _log_rate(opens, sends.clamp(min=0))
    return torch.cat([score_age_items, days, rate, mean, above], dim=1)


def type_numbers(inputs: Mapping[str, Tensor]) -> Tensor:
    """What the user had of the event's type, and did with it [N, TYPE_NUMBERS]."""
    row, event_type = inputs["user_row"].long(), inputs["event_type"].long()
    of_type = inputs["type_counts"].float()[row, event_type]  # [N, 3]
    sends, answers = of_type[:, :1], of_type[:, 1:]
    return torch.cat([torch.log1p(of_type), _log_rate(answers, sends)], dim=1)


def finite(x: Tensor) -> Tensor:
    """Zeros in place of NaN and infinities, so that one bad number stays in its place."""
    return torch.where(torch.isfinite(x), x, torch.zeros_like(x))


def _rates(counts: Tensor) -> list[Tensor]:
    """Engagements and dismissals per send, by channel and of all together, each [U, c, windows]:
    counts [U, counters, windows]."""
    sends, engaged, dismissed = (counts[:, i * CHANNELS : (i + 1) * CHANNELS] for i in range(3))
    found = []
    for hits in (engaged, dismissed):
        found += [_log_rate(hits, sends), _log_rate(hits.sum(1), sends.sum(1))]
    return found


def _log_rate(hits: Tensor, tries: Tensor) -> Tensor:
    return torch.log((hits + BELIEVED_HITS) / (tries + BELIEVED_SENDS))


def _recency(hours: Tensor, there: Tensor) -> Tensor:
    """Steps that fade with time, and the log ages of the latest and of the oldest step
    [U, sequences, 5]."""
    memories = torch.tensor(MEMORY_HOURS)[:, None]
    faded = (torch.exp(-hours[:, :, None] / memories) * there[:, :, None]).sum(-1)
    latest = torch.where(there[..., 0] > 0, hours[..., 0], NEVER_HOURS)
    ages = torch.stack([latest, (hours * there).amax(-1)], dim=-1)
    return torch.cat([faded, torch.log1p(ages)], dim=-1)


def _nearness(hours: Tensor, there: Tensor) -> Tensor:
    """Log of how much more of the past lies at this hour of the day or week than if it were spread
    evenly, for each of NEARNESS [U, sequences, 3]."""
    past = (there * (hours > PENDING_HOURS))[:, :, None]
    turns = torch.tensor([[2 * math.pi / period] for period, _ in NEARNESS])
    kernels = torch.tensor([[concentration] for _, concentration in NEARNESS])
    near = torch.exp(kernels * (torch.cos(hours[:, :, None] * turns) - 1)) * past
    near = near.sum(-1) / torch.tensor(EVEN)
    return torch.log((near + BELIEVED_STEPS) / (past.sum(-1) + BELIEVED_STEPS))
