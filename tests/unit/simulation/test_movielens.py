"""Reading the data set: good files, and each way in which a file can be wrong."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from simulation.download import is_cached, load
from simulation.made_data import make_files
from simulation.movielens import (
    ITEMS_FILE,
    PINS,
    RATINGS_FILE,
    USERS_FILE,
    DatasetError,
    Pin,
    read,
)
from simulation.timezones import time_zone


def test_made_files_read_back(tmp_path: Path) -> None:
    data = read(make_files(tmp_path, users=5, items=12, each=6), pins=None)
    assert len(data.users) == 5
    assert len(data.items) == 12
    assert len(data.ratings) == 30
    assert data.users[0].user_id == "1"
    assert data.items[3].attributes == {"genres": ("Comedy",), "year": 1994}
    assert set(data.ratings.stars.tolist()) <= {1, 2, 3, 4, 5}


@pytest.mark.skipif(not is_cached(), reason="MovieLens 100K isn't in the cache on this machine")
def test_real_counts() -> None:
    data = load()
    assert (len(data.users), len(data.items), len(data.ratings)) == (943, 1682, 100_000)
    assert data.items[11].title == "The Usual Suspects"
    assert np.bincount(data.ratings.stars).tolist() == [0, 6110, 11370, 27145, 34174, 21201]


def _pins(folder: Path) -> dict[str, Pin]:
    pins = {}
    for name in PINS:
        data = (folder / name).read_bytes()
        rows = data.count(b"\n") - 1
        pins[name] = Pin(len(data), hashlib.sha256(data).hexdigest(), rows)
    return pins


@pytest.mark.parametrize("name", [RATINGS_FILE, USERS_FILE, ITEMS_FILE])
def test_a_file_cut_short_is_refused_by_name(tmp_path: Path, name: str) -> None:
    pins = _pins(make_files(tmp_path))
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DatasetError, match=rf"{name}: cut short: [\d,]+ of [\d,]+ bytes"):
        read(tmp_path, pins)


@pytest.mark.parametrize("name", [RATINGS_FILE, USERS_FILE, ITEMS_FILE])
def test_an_altered_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    pins = _pins(make_files(tmp_path))
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=f"{name}: altered: SHA-256"):
        read(tmp_path, pins)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    make_files(tmp_path)
    (tmp_path / USERS_FILE).unlink()
    with pytest.raises(DatasetError, match=f"{USERS_FILE}: cannot be read"):
        read(tmp_path, pins=None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1\t2\t5", "3 columns instead of 4"),
        ("1\t2\t6\t874724710", "rating 6 is not from 1 to 5"),
        ("1\t2\tnan\t874724710", "rating 'nan' is not a whole number"),
        ("1\t2\t5\tinf", "timestamp 'inf' is not a whole number"),
        ("1\t9999\t5\t874724710", "unknown item 9999"),
        ("9999\t2\t5\t874724710", "unknown user 9999"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: str, reason: str) -> None:
    make_files(tmp_path, users=2, items=5, each=2)
    with (tmp_path / RATINGS_FILE).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError, match=rf"{RATINGS_FILE}, line 6: {reason}"):
        read(tmp_path, pins=None)


def test_a_wrong_header_is_refused(tmp_path: Path) -> None:
    make_files(tmp_path)
    (tmp_path / ITEMS_FILE).write_text("id,title\n")
    with pytest.raises(DatasetError, match=f"{ITEMS_FILE}: the first line must be the columns"):
        read(tmp_path, pins=None)


def test_a_broken_cache_says_how_to_mend_it(tmp_path: Path) -> None:
    make_files(tmp_path / "ml-100k")
    with pytest.raises(DatasetError, match=r"remove .*ml-100k to fetch it again"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("code", "zone"),
    [
        ("10001", "America/New_York"),
        ("37203", "America/Chicago"),
        ("60601", "America/Chicago"),
        ("59715", "America/Denver"),
        ("80202", "America/Denver"),
        ("85711", "America/Phoenix"),
        ("89101", "America/Los_Angeles"),
        ("94043", "America/Los_Angeles"),
        ("96813", "Pacific/Honolulu"),
        ("99501", "America/Anchorage"),
        ("V5A2B", "America/Vancouver"),
        ("E2A4H", "America/Halifax"),
        ("W1A1A", "UTC"),
        ("", "UTC"),
        ("1234", "UTC"),
    ],
)
def test_time_zone_of_a_postal_code(code: str, zone: str) -> None:
    assert time_zone(code) == zone
