"""A table with changed users is the table that is built anew."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.expressions import AttributeType, Columns, Schema, merge_columns
from services.candidate.expressions.columns import CollectionColumn, PlainColumn, TextColumn
from tests.unit.candidate.expressions.users import SCHEMA, USERS, table


def _read(columns: Columns) -> list[dict[str, Any]]:
    """Each row's raw values."""
    rows: list[dict[str, Any]] = [{} for _ in range(columns.size)]
    for name, column in columns.columns.items():
        for row, found in enumerate(rows):
            value = _value(column, row)
            if value is not None:
                found[name] = value
    return rows


def _value(column: PlainColumn | TextColumn | CollectionColumn, row: int) -> Any:
    if isinstance(column, TextColumn):
        last = len(column.vocabulary) - 1
        code = int(column.codes[row])
        return None if code == last else column.vocabulary[code].as_py()
    if column.present is not None and not column.present[row]:
        return None
    if isinstance(column, PlainColumn):
        return column.values[row].item()
    part = slice(int(column.offsets[row]), int(column.offsets[row + 1]))
    texts = [column.vocabulary[int(code)].as_py() for code in column.codes[part]]
    if column.values is None:
        return texts
    return dict(zip(texts, column.values[part].tolist(), strict=True))


@given(before=USERS, after=USERS, data=st.data())
def test_merged_is_built_anew(before: Any, after: Any, data: st.DataObject) -> None:
    size = len(before) + len(after)
    rows = data.draw(st.lists(st.integers(0, size - 1), max_size=30))
    some = data.draw(st.sets(st.sampled_from(sorted(SCHEMA.types))))
    others = data.draw(st.sets(st.sampled_from(sorted(SCHEMA.types)), min_size=1))
    first, second = (
        Schema({name: SCHEMA.types[name] for name in names}, SCHEMA.longest)
        for names in (some, others)
    )
    merged = merge_columns(table(before, first), table(after, second), np.array(rows, np.int64))
    kept = [
        *({k: v for k, v in user.items() if k in some} for user in before),
        *({k: v for k, v in user.items() if k in others} for user in after),
    ]
    both = Schema({**first.types, **second.types}, SCHEMA.longest)
    anew = table([kept[row] for row in rows], both)
    assert merged.types == anew.types
    assert _read(merged) == _read(anew)
    for name, column in anew.columns.items():
        if isinstance(column, CollectionColumn):
            other = merged.columns[name]
            assert isinstance(other, CollectionColumn)
            assert other.longest == column.longest


def test_other_types_don_t_mix() -> None:
    parts = table([{"n": 0.5}], Schema({"n": AttributeType.DOUBLE}))
    whole = table([{"n": 1}], Schema({"n": AttributeType.INT}))
    with pytest.raises(ValueError, match="attribute 'n' is of type double and of type int"):
        merge_columns(parts, whole, np.array([0]))


def test_texts_that_nobody_has_any_more_are_dropped() -> None:
    schema = Schema({"seen": AttributeType.STRING})
    columns = table([{"seen": "0"}], schema)
    for number in range(3000):
        columns = merge_columns(columns, table([{"seen": f"{number}"}], schema), np.array([1]))
    column = columns.columns["seen"]
    assert isinstance(column, TextColumn)
    assert len(column.vocabulary) < 1100
    assert _read(columns) == [{"seen": "2999"}]
