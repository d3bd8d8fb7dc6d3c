"""The stable hash is uniform, tells its parts apart, and never changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.runtime.hashing import unit_hash, unit_hashes


def test_values_are_recorded() -> None:
    assert unit_hash("salt", "user", "2026-03-01") == 0.12561888216197126


@given(st.text(), st.lists(st.text(), max_size=4))
def test_values_are_in_the_unit_interval(salt: str, parts: list[str]) -> None:
    assert 0.0 <= unit_hash(salt, *parts) < 1.0


def test_values_are_uniform_for_each_salt() -> None:
    for salt in ("arms", "experiments", "export"):
        values = [unit_hash(salt, f"user-{number}") for number in range(20_000)]
        assert stats.kstest(values, "uniform").pvalue > 1e-4


def test_salts_are_independent() -> None:
    users = [f"user-{number}" for number in range(20_000)]
    first = [unit_hash("a", user) for user in users]
    second = [unit_hash("b", user) for user in users]
    assert abs(stats.pearsonr(first, second).statistic) < 0.035


def test_parts_are_told_apart() -> None:
    assert unit_hash("s", "a", "bc") != unit_hash("s", "ab", "c")
    assert unit_hash("s", "a") != unit_hash("s", "a", "")


@given(st.lists(st.text()), st.text(), st.lists(st.text(), max_size=2))
def test_many_hashes_are_each_as_one(names: list[str], salt: str, parts: list[str]) -> None:
    expected = [unit_hash(salt, *parts, name) for name in names]
    assert unit_hashes(names, salt, *parts).tolist() == expected
