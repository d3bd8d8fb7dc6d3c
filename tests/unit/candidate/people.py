"""Users with attributes, and expressions over them, for tests of how they are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from services.candidate.expressions import (
    AttributeType,
    Columns,
    Schema,
    build_columns,
    typed_value,
)

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
FILTERS = ("true", 'user.country == "DE" || user.visits > 2', "user.spent > 2.0")
SCHEMA = Schema(
    {
        "country": AttributeType.STRING,
        "visits": AttributeType.INT,
        "spent": AttributeType.DOUBLE,
        "seen": AttributeType.TIMESTAMP,
        "taste": AttributeType.NUMBER_MAP,
    }
)
BOOSTERS = (
    "1.0",
    "0.25",
    "user.visits",
    'user.country == "DE" ? 2.0 : user.visits > 3 ? 1.5 : 0.5',
    "1.0 + double(user.visits) / 4.0",
    "double(user.visits - 2) * -0.5 + 1.0",
    'has(user.taste) && "art" in user.taste ? user.taste["art"] * 3.0 : 1.0',
    "user.spent / 2.0",
    "10.0 / double(user.visits)",
    "double(user.visits % 3)",
    '{"DE": 3.0, "FR": 0.1}[user.country]',
)


def people(count: int, seed: int, rows: Sequence[int] | None = None) -> Columns:
    """Users with few distinct values, so that values are often equal; some lack attributes. With
    `rows` only those of them."""
    random = np.random.default_rng(seed)

    def one() -> dict[str, Any]:
        found: dict[str, Any] = {
            "country": str(random.choice(["DE", "FR", "IT"])),
            "visits": int(random.integers(0, 6)),
            "spent": float(random.choice([0.0, 1.5, 4.0])),
            "seen": NOW - timedelta(days=int(random.integers(0, 9))),
            "taste": {"art": float(random.choice([0.5, 1.0]))},
        }
        return {name: value for name, value in found.items() if random.random() < 0.9}

    users = [{name: typed_value(value) for name, value in one().items()} for _ in range(count)]
    return build_columns(users if rows is None else [users[row] for row in rows], SCHEMA)
