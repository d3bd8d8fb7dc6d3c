"""Small made data in the three files of MovieLens 100K, for tests that must run without it.

Users and items belong to tastes: a user mostly rates items of their own taste, and those high.
"""

from pathlib import Path

import numpy as np

from simulation.movielens import HEADERS, ITEMS_FILE, RATINGS_FILE, USERS_FILE, MovieLens, read

TASTES = ("Comedy", "Drama", "Horror", "Western")
ZIP_CODES = ("10001", "60601", "80202", "94043", "V5A2B", "00000")
FIRST_TIME = 874_724_710
OWN_TASTE_SHARE = 0.8
PAUSE_S = 40 * 60


def make_files(
    folder: Path, users: int = 40, items: int = 80, each: int = 20, seed: int = 0
) -> Path:
    """Write the three files: `each` ratings by each user, in two sittings. Returns the folder."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        folder / USERS_FILE,
        [
            f"{user}\t{random.integers(18, 70)}\tM\tartist\t{ZIP_CODES[user % len(ZIP_CODES)]}"
            for user in range(1, users + 1)
        ],
    )
    _write(
        folder / ITEMS_FILE,
        [f"{item}\tFilm {item}\t{1990 + item % 9}\t{_taste(item)}" for item in range(1, items + 1)],
    )
    ratings = []
    for user in range(1, users + 1):
        ratings += _ratings_of(user, items, min(each, items), random)
    _write(folder / RATINGS_FILE, ratings)
    return folder


def made_movielens(folder: Path, users: int = 40, items: int = 80, each: int = 20) -> MovieLens:
    """The made files, read back."""
    return read(make_files(folder, users, items, each), pins=None)


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(["\t".join(HEADERS[path.name]), *lines]) + "\n")


def _taste(number: int) -> str:
    return TASTES[number % len(TASTES)]


def _ratings_of(user: int, items: int, each: int, random: np.random.Generator) -> list[str]:
    numbers = np.arange(1, items + 1)
    own = numbers % len(TASTES) == user % len(TASTES)
    chance = np.where(own, OWN_TASTE_SHARE / own.sum(), (1 - OWN_TASTE_SHARE) / (~own).sum())
    chosen = random.choice(numbers, size=each, replace=False, p=chance)
    begin = FIRST_TIME + int(random.integers(0, 200)) * 86_400 + int(random.integers(0, 86_400))
    lines = []
    for place, item in enumerate(chosen):
        liked = item % len(TASTES) == user % len(TASTES)
        stars = int(random.integers(4, 6) if liked else random.integers(1, 4))
        pause = PAUSE_S if place >= each // 2 else 0
        lines.append(f"{user}\t{item}\t{stars}\t{begin + place * 60 + pause}")
    return lines
