"""`python -m simulation.bootstrap --out LOG.parquet`: the log that the first ranking model learns.

A deployment that has never sent anything has nothing to learn from, so the world of the replay is
played offline under uniformly random sends: at each of a user's slots something is sent with
probability 1/2; then the event is drawn evenly from the user's pool and the channel evenly from
those the user takes. Sources, slots, segments, hour profiles and features are those of the
services; there are no caps, thresholds or quiet hours. Of the first 70 % of each user's ratings,
which the replay tells as history, four in seven are drawn as this world's history, and the others
are its truth: what the replay holds back is not in this log.

Several rounds start from nothing, as a new deployment does. App deletes and sessions after a
notification don't happen in this world, so their labels are masked.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from rich.progress import track

from services.ranker.training.log import LogWriter
from simulation.download import load
from simulation.movielens import DatasetError, MovieLens
from simulation.random_sends import Round
from simulation.snapshots import item_table
from simulation.suggestions import suggestions
from simulation.world import BOOTSTRAP_CUT, make_world, some_users


@dataclass(frozen=True, slots=True)
class BootstrapOptions:
    """How much to play. `random_items`: random suggestions per user and day."""

    seed: int = 1
    rounds: int = 6
    days: int = 7
    users: int | None = None
    random_items: int = 2


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What a log holds."""

    decisions: int
    sends: int
    opens: int
    turned_off: int


def make_log(data: MovieLens, path: Path, options: BootstrapOptions, *, show: bool) -> LogSummary:
    """Play the rounds and write the log; the same data and options give the same rows.

    `show`: a progress bar on standard error.
    """
    world = make_world(some_users(data, options.users, options.seed), BOOTSTRAP_CUT)
    daily = suggestions(world, options.days, options.random_items, options.seed)
    steps = [(number, day) for number in range(options.rounds) for day in range(options.days)]
    shown = track(steps, "Random sends", disable=not show)
    sends = opens = turned_off = 0
    with LogWriter(path, item_table(world.data)) as log:
        for number, day in shown:
            if day == 0:
                played = Round(world, number, options.seed, item_table(world.data))
            for examples in played.play_day(day, daily[day]):
                log.write(examples)
            if day == options.days - 1:
                sends += played.sends
                opens += played.opens
                turned_off += played.turned_off
        return LogSummary(log.row_count, sends, opens, turned_off)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 when the data can't be used."""
    parser = argparse.ArgumentParser(prog="python -m simulation.bootstrap", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6, help="times the days are played")
    parser.add_argument("--days", type=int, default=7, help="days of a round")
    parser.add_argument("--users", type=int, default=None, help="only so many users")
    given = parser.parse_args(arguments)
    begin = perf_counter()
    options = BootstrapOptions(given.seed, given.rounds, given.days, given.users)
    try:
        made = make_log(load(), given.out, options, show=sys.stderr.isatty())
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{given.out}: {made.decisions:,} decisions, {made.sends:,} sends, {made.opens:,} opened, "
        f"{made.turned_off:,} turned off, in {perf_counter() - begin:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
