"""MovieLens 100K as arrays: 100,000 ratings of 1,682 movies by 943 users (GroupLens, 1998).

The three files come from `simulation.download`; each is refused when it is cut short or altered.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulation.timezones import time_zone

ITEM_TYPE = "movie"
RATINGS_FILE = "ml-100k.inter"
USERS_FILE = "ml-100k.user"
ITEMS_FILE = "ml-100k.item"

HEADERS: Mapping[str, tuple[str, ...]] = {
    RATINGS_FILE: ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
    USERS_FILE: (
        "user_id:token",
        "age:token",
        "gender:token",
        "occupation:token",
        "zip_code:token",
    ),
    ITEMS_FILE: (
        "item_id:token",
        "movie_title:token_seq",
        "release_year:token",
        "class:token_seq",
    ),
}
"""The columns of each file, tab-separated, as its first line names them."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What one published file must be: its size in bytes, SHA-256 and number of rows."""

    size: int
    sha256: str
    rows: int


PINS: Mapping[str, Pin] = {
    RATINGS_FILE: Pin(
        1979230, "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff", 100_000
    ),
    USERS_FILE: Pin(22697, "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972", 943),
    ITEMS_FILE: Pin(
        66632, "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532", 1682
    ),
}
"""The files as recbole 1.2.1 ships them."""


class DatasetError(Exception):
    """A data file that can't be used; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class User:
    """One rater. `age` in years, `time_zone` from the postal code's region."""

    user_id: str
    age: int
    gender: str
    occupation: str
    zip_code: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class Item:
    """One movie. `year` is 0 when the data set doesn't know it."""

    item_id: str
    title: str
    year: int
    genres: tuple[str, ...]

    @property
    def attributes(self) -> dict[str, int | tuple[str, ...]]:
        """Typed attributes by name; without a year when it isn't known."""
        known: dict[str, int | tuple[str, ...]] = {"genres": self.genres}
        return known | {"year": self.year} if self.year else known

    @property
    def text(self) -> str:
        """What a product team might write about it."""
        kind = ", ".join(self.genres) or "Film"
        when = f", {self.year}" if self.year else ""
        return f"{self.title}: {kind}{when}."


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ratings as columns of one length: rows of users and items, stars 1–5, seconds since 1970."""

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    stars: npt.NDArray[np.int8]
    time: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Ratings":
        """The ratings at these rows, in their order."""
        return Ratings(self.user[rows], self.item[rows], self.stars[rows], self.time[rows])


@dataclass(frozen=True, slots=True)
class MovieLens:
    """The data set. `ratings.user` and `.item` are positions in `users` and `items`."""

    users: tuple[User, ...]
    items: tuple[Item, ...]
    ratings: Ratings


def read(folder: Path, pins: Mapping[str, Pin] | None = PINS) -> MovieLens:
    """Read and check the three files in a folder.

    `pins` None skips size, hash and row counts, for made data of the same schema. Raises
    DatasetError with the file's name and the reason.
    """
    rows = {name: _rows(folder / name, pins[name] if pins else None) for name in HEADERS}
    users = tuple(_user(row) for row in rows[USERS_FILE])
    items = tuple(_item(row) for row in rows[ITEMS_FILE])
    _check_unique(USERS_FILE, (user.user_id for user in users))
    _check_unique(ITEMS_FILE, (item.item_id for item in items))
    ratings = _ratings(
        rows[RATINGS_FILE],
        {user.user_id: position for position, user in enumerate(users)},
        {item.item_id: position for position, item in enumerate(items)},
    )
    return MovieLens(users, items, ratings)


def check(path: Path, pin: Pin) -> bytes:
    """The file's bytes. Raises DatasetError when it is missing, cut short or altered."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) < pin.size:
        raise DatasetError(f"{path}: cut short: {len(data):,} of {pin.size:,} bytes")
    found = hashlib.sha256(data).hexdigest()
    if found != pin.sha256:
        raise DatasetError(f"{path}: altered: SHA-256 is {found}, not {pin.sha256}")
    return data


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a file: where it stands, for messages, and its fields."""

    place: str
    fields: list[str]


def _rows(path: Path, pin: Pin | None) -> list[_Row]:
    try:
        data = check(path, pin) if pin else path.read_bytes()
        lines = data.decode("utf-8").splitlines()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 at byte {error.start}") from error
    header = HEADERS[path.name]
    if not lines or tuple(lines[0].split("\t")) != header:
        raise DatasetError(f"{path}: the first line must be the columns {', '.join(header)}")
    rows = [_Row(f"{path}, line {n}", line.split("\t")) for n, line in enumerate(lines[1:], 2)]
    for row in rows:
        if len(row.fields) != len(header):
            raise DatasetError(f"{row.place}: {len(row.fields)} columns instead of {len(header)}")
    if pin and len(rows) != pin.rows:
        raise DatasetError(f"{path}: {len(rows):,} rows instead of {pin.rows:,}")
    return rows


def _check_unique(name: str, keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise DatasetError(f"{name}: id {key} stands there twice")
        seen.add(key)


def _user(row: _Row) -> User:
    number, age, gender, occupation, zip_code = row.fields
    return User(
        user_id=number,
        age=_whole(row, "age", age),
        gender=gender,
        occupation=occupation,
        zip_code=zip_code,
        time_zone=time_zone(zip_code),
    )


def _item(row: _Row) -> Item:
    number, title, year, genres = row.fields
    return Item(
        item_id=number,
        title=_spoken(title),
        year=int(year) if year.isdecimal() else 0,
        genres=tuple(genre for genre in genres.split(" ") if genre and genre != "unknown"),
    )


def _spoken(title: str) -> str:
    """`Usual Suspects, The` as people say it: `The Usual Suspects`."""
    name, comma, article = title.rpartition(", ")
    return f"{article} {name}" if comma and article in ("The", "A", "An") else title


def _ratings(rows: list[_Row], users: Mapping[str, int], items: Mapping[str, int]) -> Ratings:
    user, item, stars, time = [], [], [], []
    for row in rows:
        user_number, item_number, given, seconds = row.fields
        user.append(_known(row, "user", user_number, users))
        item.append(_known(row, "item", item_number, items))
        rating = _whole(row, "rating", given)
        if not 1 <= rating <= 5:
            raise DatasetError(f"{row.place}: rating {rating} is not from 1 to 5")
        stars.append(rating)
        time.append(_whole(row, "timestamp", seconds))
    return Ratings(
        np.array(user, np.int32),
        np.array(item, np.int32),
        np.array(stars, np.int8),
        np.array(time, np.int64),
    )


def _known(row: _Row, what: str, key: str, positions: Mapping[str, int]) -> int:
    try:
        return positions[key]
    except KeyError:
        raise DatasetError(f"{row.place}: unknown {what} {key}") from None


def _whole(row: _Row, column: str, text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number != number or number in (float("inf"), -float("inf")) or number != int(number):
        raise DatasetError(f"{row.place}: {column} {text!r} is not a whole number")
    return int(number)
