"""Rows in COPY's binary format, read back by the manual."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.runtime import binary_rows


def parsed(copied: bytes) -> list[list[bytes | None]]:
    """Values by row, see "Binary Format" of COPY; None is NULL."""
    signature, flags, extension = struct.unpack_from(">11sii", copied)
    assert (signature, flags, extension) == (b"PGCOPY\n\xff\r\n\0", 0, 0)
    rows, at = [], 19
    while (count := struct.unpack_from(">h", copied, at)[0]) != -1:
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", copied, at)
            at += 4
            row.append(None if length == -1 else copied[at : at + length])
            at += max(length, 0)
        rows.append(row)
    assert at + 2 == len(copied)
    return rows


plain = st.text(st.characters(exclude_categories=["Cs"]))
moments = st.datetimes(timezones=st.just(UTC))


def test_days_count_from_2000() -> None:
    days = [date(2000, 1, 1), date(1999, 12, 31), date(2026, 3, 1)]
    found = parsed(binary_rows.rows(1, [[binary_rows.day(day) for day in days]]))
    assert [struct.unpack(">i", value or b"")[0] for (value,) in found] == [0, -1, 9556]


@given(st.lists(st.tuples(plain, st.binary(), st.none() | moments)))
def test_rows_come_back(rows: list[tuple[str, bytes, datetime | None]]) -> None:
    texts = binary_rows.texts([text for text, _, _ in rows])
    binaries = binary_rows.binaries([value for _, value, _ in rows])
    times = [binary_rows.time(moment) for _, _, moment in rows]
    found = parsed(binary_rows.rows(3, [texts, binaries, times]))
    assert [(text, value) for text, value, _ in found] == [(t.encode(), v) for t, v, _ in rows]
    for (_, _, read), (_, _, moment) in zip(found, rows, strict=True):
        assert (read is None) == (moment is None)
        if read is not None and moment is not None:
            since = moment - datetime(2000, 1, 1, tzinfo=UTC)
            (micros,) = struct.unpack(">q", read)
            assert micros == (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds


@given(st.lists(plain))
def test_arrays_come_back(values: list[str]) -> None:
    ((content,),) = parsed(binary_rows.rows(1, [[binary_rows.text_array(tuple(values))]]))
    assert content is not None
    dimensions, nulls, element = struct.unpack_from(">iii", content)
    assert (dimensions, nulls, element) == (min(1, len(values)), 0, 25)
    if values:
        assert struct.unpack_from(">ii", content, 12) == (len(values), 1)
        at = 20
        for value in values:
            (length,) = struct.unpack_from(">i", content, at)
            assert content[at + 4 : at + 4 + length].decode() == value
            at += 4 + length
        assert at == len(content)


def test_small_values() -> None:
    fields = [[binary_rows.smallint(3)], [binary_rows.smallint(None)], [binary_rows.flag(True)]]
    assert parsed(binary_rows.rows(3, fields)) == [[b"\0\3", None, b"\1"]]
