"""Attributes of users and items, and facts about them, as columns for filters and boosters."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from heliograph.type.v1alpha1 import event_pb2

from services.candidate.expressions import (
    AttributeType,
    Columns,
    TypedValue,
    read_values,
    typed_value,
)
from services.candidate.expressions.columns import Column, PlainColumn
from services.candidate.sources.arrays import Rows, Times

CREATE_TIME = "create_time"
INTERACTION_COUNT = "interaction_count"
ITEM_TYPE = "item_type"


def read_user(body: bytes) -> dict[str, TypedValue]:
    """The attributes of a stored user."""
    return read_values(event_pb2.User.FromString(body).attributes)


def read_item(body: bytes) -> dict[str, TypedValue]:
    """The attributes of a stored item, and its type where it has no attribute of this name."""
    item = event_pb2.Item.FromString(body)
    attributes = read_values(item.attributes)
    if item.item_type:
        attributes.setdefault(ITEM_TYPE, typed_value(item.item_type))
    return attributes


def listed(attributes: Mapping[str, TypedValue]) -> dict[str, list[Any]]:
    """The attributes of one, as `Columns.lists` gives those of many."""
    raws = {name: value.raw for name, value in attributes.items()}
    return {name: [list(raw) if isinstance(raw, dict) else raw] for name, raw in raws.items()}


def with_facts(columns: Columns, created: Times, counts: Rows) -> Columns:
    """The table with what is known of every row besides its attributes: when it came to be, and how
    many interactions it has. A stored attribute of such a name takes its place for all rows."""
    facts: dict[str, tuple[AttributeType, Column]] = {
        CREATE_TIME: (AttributeType.TIMESTAMP, PlainColumn(created.astype(np.int64), None)),
        INTERACTION_COUNT: (AttributeType.INT, PlainColumn(counts, None)),
    }
    types = {name: kind for name, (kind, _) in facts.items()} | dict(columns.types)
    found = {name: column for name, (_, column) in facts.items()} | dict(columns.columns)
    return replace(columns, types=MappingProxyType(types), columns=MappingProxyType(found))
