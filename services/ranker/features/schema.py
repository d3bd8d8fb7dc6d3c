"""The named arrays of the features: one table that code, log and model check themselves against."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import vocabulary as v

STEPS = 64
"""Longest sequence, in steps."""
WINDOWS_HOURS = (24, 7 * 24, 28 * 24)
"""Windows of the aggregates: 1, 7 and 28 days in whole hours, the current hour included."""
TYPE_COUNTS = ("sends", "engagements", "dismissals")
"""Columns of `type_counts`."""
PROFILE_NUMBERS = ("known", "hour_of_week", "hour_of_day", "day_of_week")
"""Columns of `hour_profile`: a flag, then the user's share of activity at the delivery hour,
relative to an even spread (1 = as much as in any hour), cut at 8."""
EVENT_NUMBERS = (
    "source_log_score", "age", "items", "item_sends", "item_open_rate", "item_scored",
    "item_mean_score",
)  # fmt: skip
"""Columns of `event_numbers`; see event_features."""
SEQUENCES = ("engagement", "send", "response")
HOURS_OF_WEEK = 168
EVENT_ITEMS = 4
"""Items of an event whose content is read, the best ones."""
TABLE_ROWS: Mapping[str, int] = {
    "segment": v.SEGMENT_BUCKETS,
    "locale": v.LOCALE_BUCKETS,
    "hour_of_week": HOURS_OF_WEEK,
    "event_type": v.TYPE_BUCKETS,
    "event_source": v.SOURCE_BUCKETS,
    **{f"{sequence}_kinds": len(v.StepKind) for sequence in SEQUENCES},
    **{f"{sequence}_channels": len(v.Channel) for sequence in SEQUENCES},
    **{f"{sequence}_types": v.TYPE_BUCKETS for sequence in SEQUENCES},
}
"""Features that are rows of tables, and how many rows there are: values are 0 to one less."""

Features: TypeAlias = dict[str, NDArray[Any]]
"""Arrays by name; the first axis is users or events."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One named array: shape of a row and type of its numbers."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_ref: bool = False
    """Values are content references (0: none), resolved to rows of `items` for the model."""


def _sequence(name: str) -> tuple[FeatureSpec, ...]:
    return (
        FeatureSpec(f"{name}_kinds", (STEPS,), "uint8"),
        FeatureSpec(f"{name}_channels", (STEPS,), "uint8"),
        FeatureSpec(f"{name}_types", (STEPS,), "uint8"),
        FeatureSpec(f"{name}_ages", (STEPS,), "int32"),  # seconds before the snapshot
        FeatureSpec(f"{name}_delays", (STEPS,), "int32"),  # seconds since its decision, 0: none
        FeatureSpec(f"{name}_items", (STEPS,), "int64", is_ref=True),
    )


USER_FEATURES = (
    FeatureSpec("segment", (), "int32"),
    FeatureSpec("locale", (), "int32"),
    FeatureSpec("hour_of_week", (), "int32"),  # 0 is Monday 00:00 local, at delivery
    FeatureSpec("hour_profile", (len(PROFILE_NUMBERS),), "float32"),
    FeatureSpec("counts", (len(v.Counter), len(WINDOWS_HOURS)), "int32"),
    FeatureSpec("type_counts", (v.TYPE_BUCKETS, len(TYPE_COUNTS)), "int32"),  # last 28 days
    *_sequence("engagement"),
    *_sequence("send"),
    *_sequence("response"),
)
EVENT_FEATURES = (
    FeatureSpec("event_type", (), "int32"),
    FeatureSpec("event_source", (), "int32"),
    FeatureSpec("event_items", (EVENT_ITEMS,), "int64", is_ref=True),  # best first
    FeatureSpec("event_numbers", (len(EVENT_NUMBERS),), "float32"),
)


def schema_hash() -> str:
    """Names a version of the features: a model serves only features of its own version.

    Change REVISION when the meaning of an array changes while its shape stays.
    """
    text = repr((REVISION, USER_FEATURES, EVENT_FEATURES, WINDOWS_HOURS, tuple(v.HEADS)))
    return sha256(text.encode()).hexdigest()[:16]


REVISION = 2


def empty(spec: FeatureSpec, rows: int) -> NDArray[Any]:
    """An array of zeros of that feature for `rows` users or events."""
    return np.zeros((rows, *spec.shape), dtype=spec.dtype)
