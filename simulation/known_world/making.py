"""Playing the whole world, block by block."""

from dataclasses import dataclass

import numpy as np
from rich.progress import track

from simulation.known_world import offers, people
from simulation.known_world.chances import Chances, chances
from simulation.known_world.offers import Offers
from simulation.known_world.parameters import SLOTS_PER_DAY, WORLDS
from simulation.known_world.people import People
from simulation.known_world.play import Played, play
from simulation.known_world.record import Record, record, together
from simulation.known_world.tastes import Tastes, fit
from simulation.known_world.truth import truth
from simulation.movielens import MovieLens

BLOCK = 128
"""Users played at once: what they need then fits the processor's cache."""
MOST_DAYS = 55
"""The world has no summer time, which begins nine weeks after its start."""


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """How much to play. `world` names one of WORLDS."""

    users: int
    days: int
    seed: int = 1
    world: str = "base"

    @property
    def user_names(self) -> list[str]:
        """Ids of the users, different in each world and for each seed."""
        return [f"{self.world}-{self.seed}-{row}" for row in range(self.users)]


def play_world(data: MovieLens, options: WorldOptions, *, show: bool) -> Record:
    """What happened, and what was to be expected; the same data and options give the same.

    Raises TooFewItemsError. `show`: a progress bar on standard error.
    """
    tastes = fit(data, WORLDS[options.world])
    blocks = range(0, options.users, BLOCK)
    shown = track(blocks, "Playing", disable=not show)
    logged = options.days * SLOTS_PER_DAY
    return together(
        [_recorded(play_block(data, tastes, options, first), logged) for first in shown]
    )


@dataclass(frozen=True, slots=True)
class Block:
    """Some users, what was to be expected of them, and what they did."""

    people: People
    offers: Offers
    chances: Chances
    played: Played


def play_block(data: MovieLens, tastes: Tastes, options: WorldOptions, first: int) -> Block:
    """The users from position `first` on, BLOCK of them or those that are left."""
    parameters = WORLDS[options.world]
    random = np.random.default_rng((options.seed, first))
    count = min(BLOCK, options.users - first)
    drawn = people.draw(count, options.days, data, tastes, parameters, random)
    slots = drawn.slots.shape[1] - 1
    offered = offers.draw(drawn.taste, slots, tastes, parameters, random)
    probabilities = chances(drawn, offered, parameters)
    return Block(drawn, offered, probabilities, play(drawn, probabilities, random))


def _recorded(block: Block, logged: int) -> Record:
    known = truth(block.chances, block.played, logged)
    return record(block.people, block.offers, block.played, known, logged)
