"""The table of users."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from heliograph.type.v1alpha1 import attribute_pb2

from services.candidate.expressions import (
    AttributeType,
    Schema,
    TypedValue,
    build_columns,
    compile_filter,
    converted,
    read_values,
    typed_value,
)
from services.candidate.expressions.columns import CollectionColumn, PlainColumn, TextColumn

_T = AttributeType


def test_texts_are_stored_once_under_the_smallest_codes() -> None:
    users = [{"few": typed_value(f"{i % 3}"), "many": typed_value(f"{i}")} for i in range(70_000)]
    columns = build_columns(users, Schema({"few": _T.STRING, "many": _T.STRING}))
    few, many = columns.columns["few"], columns.columns["many"]
    assert isinstance(few, TextColumn)
    assert isinstance(many, TextColumn)
    assert (few.codes.dtype, many.codes.dtype) == (np.dtype(np.uint8), np.dtype(np.int32))
    assert few.vocabulary.to_pylist() == ["0", "1", "2", ""]
    assert few.nbytes < 70_100


def test_missing_values_have_a_mask_only_where_there_are_some() -> None:
    users = [{"a": typed_value(1), "b": typed_value(2)}, {"b": typed_value(3)}]
    columns = build_columns(users, Schema({"a": _T.INT, "b": _T.INT}))
    a, b = columns.columns["a"], columns.columns["b"]
    assert isinstance(a, PlainColumn)
    assert isinstance(b, PlainColumn)
    assert a.present is not None
    assert a.present.tolist() == [True, False]
    assert b.present is None
    assert b.values.tolist() == [2, 3]


def test_values_of_some_rows_as_python_has_them() -> None:
    users = [
        {"a": typed_value(1), "l": typed_value(["x", "y"]), "t": typed_value("one")},
        {"l": typed_value([]), "m": typed_value({"k": 1.5, "j": 2.0})},
        {"a": typed_value(3), "l": typed_value(["y", "z", "x"]), "t": typed_value("")},
    ]
    types = {"a": _T.INT, "l": _T.STRING_LIST, "m": _T.NUMBER_MAP, "t": _T.STRING}
    columns = build_columns([*users, {}], Schema(types))
    assert columns.lists(np.array([2, 3, 1, 0, 2])) == {
        "a": [3, None, None, 1, 3],
        "l": [["y", "z", "x"], None, [], ["x", "y"], ["y", "z", "x"]],
        "m": [None, None, ["k", "j"], None, None],
        "t": ["", None, None, "one", ""],
    }
    assert columns.lists(np.zeros(0, np.int64)) == {name: [] for name in types}


def test_lists_and_maps_lie_behind_each_other() -> None:
    users = [
        {"l": typed_value(["x", "y"])},
        {"l": typed_value([]), "m": typed_value({"k": 1.5})},
        {"l": typed_value(["y"])},
    ]
    columns = build_columns(users, Schema({"l": _T.STRING_LIST, "m": _T.NUMBER_MAP}))
    lists, maps = columns.columns["l"], columns.columns["m"]
    assert isinstance(lists, CollectionColumn)
    assert isinstance(maps, CollectionColumn)
    assert lists.offsets.tolist() == [0, 2, 2, 3]
    assert lists.codes.tolist() == [0, 1, 1]
    assert lists.present is None
    assert maps.present is not None
    assert maps.present.tolist() == [False, True, False]
    assert maps.values is not None
    assert maps.values.tolist() == [1.5]
    assert dict(columns.schema.longest) == {"l": 2, "m": 1}


def test_values_of_another_type_are_left_out_and_counted() -> None:
    users = [{"a": typed_value("x"), "b": typed_value(2), "c": typed_value(1)}]
    columns = build_columns(users, Schema({"a": _T.INT, "b": _T.DOUBLE}))
    assert dict(columns.mistyped) == {"a": 1, "c": 1}
    found = compile_filter("!has(user.a) && user.b == 2.0", columns.schema)
    assert found.evaluate(columns, datetime.now(UTC)).matches.tolist() == [True]


@pytest.mark.parametrize(
    ("raw", "kind", "found"),
    [
        (44, _T.DOUBLE, 44.0),
        (2**53, _T.DOUBLE, 2.0**53),
        (2**53 + 1, _T.DOUBLE, None),
        (2**63 - 1, _T.DOUBLE, None),
        (44.0, _T.INT, 44),
        (-(2.0**63), _T.INT, -(2**63)),
        (2.0**63, _T.INT, None),
        (44.5, _T.INT, None),
        ("44", _T.INT, None),
        (44, _T.STRING, None),
        (True, _T.INT, None),
        (0, _T.BOOL, None),
        (44, _T.INT, 44),
    ],
)
def test_equal_numbers_are_one_another(raw: Any, kind: AttributeType, found: Any) -> None:
    value = converted(typed_value(raw), kind)
    assert value == (None if found is None else TypedValue(kind, found))
    assert value is None or type(value.raw) is type(found)


def test_messages_are_read() -> None:
    message = attribute_pb2.AttributeValue
    numbers = attribute_pb2.NumberMap(values={"k": 1.5})
    attributes = {
        "s": message(string_value="x"),
        "d": message(number_value=1.5),
        "i": message(int_value=-3),
        "b": message(bool_value=True),
        "t": message(time_value=Timestamp(seconds=-1, nanos=999_999_999)),
        "p": message(duration_value=Duration(seconds=-1, nanos=-1_999)),
        "l": message(list_value=attribute_pb2.StringList(values=["x"])),
        "m": message(map_value=numbers),
        "none": message(),
    }
    assert read_values(attributes) == {
        "s": TypedValue(_T.STRING, "x"),
        "d": TypedValue(_T.DOUBLE, 1.5),
        "i": TypedValue(_T.INT, -3),
        "b": TypedValue(_T.BOOL, True),
        "t": TypedValue(_T.TIMESTAMP, -1),
        "p": TypedValue(_T.DURATION, -1_000_001),
        "l": TypedValue(_T.STRING_LIST, ["x"]),
        "m": TypedValue(_T.NUMBER_MAP, {"k": 1.5}),
    }
