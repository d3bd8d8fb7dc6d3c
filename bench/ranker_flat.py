"""The ranker's inputs as one row of plain numbers per event, for models without sequences.

Everything that the ranking model can see is there in some form: counts and other numbers as they
are, what user and event share, the mean content of each kind of response, and of each sequence its
length, the kinds that it holds and the ages of its latest steps. Models that are helped have the
numbers besides that the ranking model derives within its graph (`training/numbers.py`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from services.ranker.features.schema import (
    EVENT_NUMBERS,
    PROFILE_NUMBERS,
    SEQUENCES,
    TYPE_COUNTS,
    WINDOWS_HOURS,
)
from services.ranker.features.vocabulary import (
    LOCALE_BUCKETS,
    SEGMENT_BUCKETS,
    SOURCE_BUCKETS,
    TYPE_BUCKETS,
    Counter,
    StepKind,
)
from services.ranker.training.model import CONTENT_PARTS, event_content
from services.ranker.training.numbers import (
    EVENT_ROW_NUMBERS,
    TIME_NUMBERS,
    TYPE_NUMBERS,
    USER_NUMBERS,
    event_numbers,
    finite,
    time_numbers,
    type_numbers,
    user_numbers,
)

CATEGORIES: Mapping[str, int] = {
    "segment": SEGMENT_BUCKETS,
    "locale": LOCALE_BUCKETS,
    "hour": 24,
    "day": 7,
    "event_type": TYPE_BUCKETS,
    "event_source": SOURCE_BUCKETS,
}
"""Numbered features, and how many rows their tables need."""
LATEST = 8
"""Steps of each sequence whose ages are told."""
BAGS = ("liked", "dismissed", "sent")
"""Items of a user whose mean content is told."""
NEVER = 10.0
"""Log of hours since a step that isn't there: 2.5 years."""
_AS_THEY_ARE = len(Counter) * len(WINDOWS_HOURS) + len(PROFILE_NUMBERS) + len(TYPE_COUNTS)
_DERIVED = USER_NUMBERS + TIME_NUMBERS + TYPE_NUMBERS + EVENT_ROW_NUMBERS
_OTHERS = (
    len(EVENT_NUMBERS)
    + len(SEQUENCES) * (len(StepKind) + LATEST)
    + len(BAGS) * len(CONTENT_PARTS)
    + len(SEQUENCES)
)


def categories(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CATEGORIES of N events, each [N]."""
    user_row, hour = inputs["user_row"].long(), inputs["hour_of_week"].long()
    of_user = {
        "segment": inputs["segment"].long(),
        "locale": inputs["locale"].long(),
        "hour": hour % 24,
        "day": torch.div(hour, 24, rounding_mode="floor"),
    }
    of_event = {name: inputs[name].long() for name in ("event_type", "event_source")}
    return {name: rows[user_row] for name, rows in of_user.items()} | of_event


def number_count(*, helped: bool) -> int:
    """Columns of `numbers`."""
    return _OTHERS + (_DERIVED if helped else _AS_THEY_ARE)


def numbers(inputs: Mapping[str, Tensor], *, helped: bool) -> Tensor:
    """[N, `number_count`]."""
    user_row, item = inputs["user_row"].long(), inputs["event_items"][:, 0].long()
    if helped:
        of_user = [user_numbers(inputs), time_numbers(inputs)]
        of_event = [type_numbers(inputs), event_numbers(inputs)]
    else:
        counts = torch.log1p(inputs["counts"].float()).flatten(1)
        of_user = [counts, finite(inputs["hour_profile"])]
        of_type = inputs["type_counts"].float()[user_row, inputs["event_type"].long()]
        of_event = [torch.log1p(of_type)]
    for name in SEQUENCES:
        of_user += _of_sequence(inputs[f"{name}_kinds"], inputs[f"{name}_ages"])
    content = event_content(inputs)
    near = [
        (content[:, part] * bag[user_row, part]).sum(-1, keepdim=True)
        for bag in bags(inputs)
        for part in CONTENT_PARTS
    ]
    again = [
        ((inputs[f"{name}_items"][user_row] == item[:, None]) & (item[:, None] > 0))
        .float()
        .sum(-1, keepdim=True)
        for name in SEQUENCES
    ]
    users = torch.cat(of_user, dim=1)[user_row]
    return torch.cat([users, *of_event, finite(inputs["event_numbers"]), *near, *again], dim=1)


def contents(inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """The event's content and each of BAGS, each [N, CONTENT_DIMENSIONS]."""
    user_row = inputs["user_row"].long()
    return [event_content(inputs), *(bag[user_row] for bag in bags(inputs))]


def bags(inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Mean content of each of BAGS, each [U, CONTENT_DIMENSIONS]; 0 where there is nothing."""
    kinds = inputs["response_kinds"]
    chosen = (
        ("response", (kinds == int(StepKind.OPEN)) | (kinds == int(StepKind.CLICK))),
        ("response", kinds == int(StepKind.DISMISS)),
        ("send", inputs["send_kinds"] == int(StepKind.SEND)),
    )
    found = []
    for name, rows in chosen:
        weights = rows.float()[:, None]  # [U, 1, L]
        total = (weights @ inputs["items"][inputs[f"{name}_items"].long()])[:, 0]
        found.append(total / torch.clamp(weights.sum(-1), min=1))
    return found


def flat(inputs: Mapping[str, Tensor], *, helped: bool) -> Tensor:
    """All of it [N, F]: categories first, then numbers, then contents."""
    numbered = torch.stack(list(categories(inputs).values()), dim=1).float()
    return torch.cat([numbered, numbers(inputs, helped=helped), *contents(inputs)], dim=1)


def _of_sequence(kinds: Tensor, ages: Tensor) -> list[Tensor]:
    """Of each user, the length, counts of kinds, and the latest steps' ages."""
    there = kinds > 0
    counts = [(kinds == kind).float().sum(1) for kind in StepKind if kind]
    hours = torch.where(there, torch.log1p(ages.float() / 3600), NEVER)
    short = max(LATEST - hours.shape[1], 0)
    latest = torch.nn.functional.pad(hours, (0, short), value=NEVER)[:, :LATEST]
    length = torch.log1p(there.float().sum(1))
    return [torch.stack([length, *map(torch.log1p, counts)], dim=1), latest]
