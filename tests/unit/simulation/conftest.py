"""Small made data of MovieLens' schema: these tests need no network and no real file."""

from pathlib import Path

import pytest

from simulation.made_data import made_movielens
from simulation.movielens import MovieLens
from simulation.world import REPLAY_CUT, World, make_world


@pytest.fixture
def data(tmp_path: Path) -> MovieLens:
    """40 users, 80 items, 20 ratings each."""
    return made_movielens(tmp_path / "ml-100k")


@pytest.fixture
def world(data: MovieLens) -> World:
    """The replay's cut of the made data."""
    return make_world(data, REPLAY_CUT)
