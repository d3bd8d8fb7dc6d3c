"""`python -m simulation.known_world --users N --days D --out LOG.parquet --truth TRUTH.parquet`.

Writes a training log of a world whose true probabilities are known, and the truth beside it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from simulation.download import load
from simulation.known_world.figures import HeadFigures, figures
from simulation.known_world.making import MOST_DAYS, WorldOptions, play_world
from simulation.known_world.offers import TooFewItemsError
from simulation.known_world.parameters import WORLDS, parameters_hash
from simulation.known_world.training_log import Files, HistoryError, label, write
from simulation.movielens import DatasetError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit status 1 when the data can't be used."""
    given = _parser().parse_args(arguments)
    if not (1 <= given.days <= MOST_DAYS and given.users >= 1 and given.seed >= 0):
        print(f"days must be 1 to {MOST_DAYS}, users 1 or more, the seed ≥ 0", file=sys.stderr)
        return 2
    begin = perf_counter()
    options = WorldOptions(given.users, given.days, given.seed, given.world)
    show = sys.stderr.isatty()
    try:
        data = load()
        record = play_world(data, options, show=show)
    except (DatasetError, TooFewItemsError) as error:
        print(error, file=sys.stderr)
        return 1
    labelled = label(record, options, everything=given.everything)
    files = Files(given.out, given.truth, given.history_before, given.history_after)
    try:
        rows = write(data, options, record, labelled, files, show=show)
    except HistoryError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{given.out}: {rows:,} of {len(labelled.row):,} decisions, world {options.world}, "
        f"parameters {parameters_hash(WORLDS[options.world])}, seed {options.seed}, "
        f"in {perf_counter() - begin:.0f} s"
    )
    _show(figures(record, labelled))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulation.known_world", description=__doc__)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--days", type=int, default=21, help="three slots a day for each user")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--world", choices=sorted(WORLDS), default="base")
    parser.add_argument("--out", type=Path, required=True, help="the training log to write")
    parser.add_argument("--truth", type=Path, required=True, help="the true probabilities to write")
    parser.add_argument(
        "--history-before",
        type=Path,
        metavar="FILE",
        help="begin with the items' history that an earlier world wrote (default: none was sent)",
    )
    parser.add_argument(
        "--history-after", type=Path, metavar="FILE", help="write the items' history at the end"
    )
    parser.add_argument(
        "--everything",
        action="store_true",
        help="log every decision, with probability 1, rather than at the logging rates",
    )
    return parser


def _show(heads: Sequence[HeadFigures]) -> None:
    """Over all decisions, also those that the sampling left out."""
    print(f"{'head':18}{'decisions':>10}{'rate':>9}{'truth':>9}{'bayes':>9}{'constant':>10}")
    for head in heads:
        print(
            f"{head.name:18}{head.decisions:>10,}{head.base_rate:>9.4f}{head.expected_rate:>9.4f}"
            f"{head.bayes_loss:>9.5f}{head.constant_loss:>10.5f}"
        )


if __name__ == "__main__":
    sys.exit(main())
