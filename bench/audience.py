"""`python -m bench.audience --users 1000000 --dim 64 --json OUT`: whole answers for an item.

On one core and in turns, over the users of bench.inverse: what `RecommendUsersToItem` does between
its request and its message, in process (`Audiences.users_for_item`): the criteria are read and
compiled, the item becomes a query, the search runs in a thread, and ids, scores and counts are
listed. Plain, with a filter, and with a filter and boosters; the yardstick is the bare BLAS product
over the same matrix plus `numpy.argpartition`. Beside them stands the same answer with its
omissions counted, for which everybody is looked at: both have to be the same.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench.audience_state import StillIndex, make_state
from bench.interleaved import interleaved, milliseconds, ratio_metric, use_one_core
from bench.inverse_data import BOOSTER, FILTER, NOW, SMOOTH_BOOSTER
from bench.inverse_search import COUNT
from bench.report import BenchReport, Metric
from services.candidate.audiences import Audiences
from services.candidate.budget import Budgets
from services.candidate.criteria import CriteriaReader
from services.candidate.index import IndexState
from services.candidate.index.prediction import Prediction
from services.candidate.questions import Audience, Choice, Page
from services.candidate.rotation import Recommendations
from services.runtime.clock import Clock

ITEMS = 64
PACKAGES = ("numpy", "scipy", "pyarrow")
SEARCHED = Choice(count=COUNT, count_omissions=False)
FORMS: Mapping[str, tuple[Choice, float]] = {
    "plain": (SEARCHED, 1.5),
    "filtered": (replace(SEARCHED, filter=FILTER), 2.5),
    "filtered_boosted": (replace(SEARCHED, filter=FILTER, booster=BOOSTER), 2.5),
    "filtered_smooth_booster": (replace(SEARCHED, filter=FILTER, booster=SMOOTH_BOOSTER), 2.5),
}
"""What is asked, and the most of the yardstick's time."""


class Answers:
    """Asks one state of the index."""

    def __init__(self, state: IndexState) -> None:
        # Neither rotation nor budgets are asked for, so that there is nothing to read.
        reader = CriteriaReader(
            cast(Recommendations, None), cast(Budgets, None), Clock(simulation=False)
        )
        self._audiences = Audiences(StillIndex(state).as_index(), reader)
        self._names = state.catalogue.item_ids

    async def find(self, choice: Choice, number: int) -> Audience:
        """One answer."""
        name = self._names[number % len(self._names)]
        return await self._audiences.users_for_item(name, choice, Page("bench", NOW))

    async def confirmed(self, choice: Choice) -> float:
        """Share of the items for whose answer it is the same whether omissions are counted."""
        same = 0
        for number in range(len(self._names)):
            counted = await self.find(replace(choice, count_omissions=True), number)
            same += replace(counted, omissions={}) == await self.find(choice, number)
        return same / len(self._names)


def report(given: argparse.Namespace) -> BenchReport:
    """Ratios of the medians."""
    state = make_state(given.users, ITEMS, given.dim)
    answers = Answers(state)
    prediction = state.prediction
    assert isinstance(prediction, Prediction)
    queries = [prediction.users_for_item(row).query for row in range(ITEMS)]
    vectors = prediction.vectors["users"].vectors

    def bare(number: int) -> object:
        scores = vectors @ queries[number % ITEMS]
        return np.argpartition(scores, len(scores) - COUNT)[-COUNT:]

    with asyncio.Runner() as runner:

        def finding(choice: Choice) -> Callable[[int], object]:
            return lambda number: runner.run(answers.find(choice, number))

        forms = {name: finding(choice) for name, (choice, _) in FORMS.items()}
        forms |= {
            f"{name}_counted": finding(replace(choice, count_omissions=True))
            for name, (choice, _) in FORMS.items()
        }
        seconds = interleaved(forms | {"bare": bare}, given.rounds)
        same = {name: runner.run(answers.confirmed(choice)) for name, (choice, _) in FORMS.items()}
    metrics = {
        f"{name}_over_bare": ratio_metric(seconds[name], seconds["bare"], goal)
        for name, (_, goal) in FORMS.items()
    }
    metrics["same"] = Metric(min(same.values()), "share of answers", 1.0, "higher")
    series: dict[str, Any] = {
        "users": given.users,
        "dimensions": given.dim,
        "filter": FILTER,
        "boosters": [BOOSTER, SMOOTH_BOOSTER],
        "same": same,
        "milliseconds": milliseconds(seconds),
    }
    return BenchReport("audience", metrics, series, PACKAGES)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.audience", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="write the figures there")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args(arguments)
    use_one_core()
    found = report(given)
    found.print()
    found.write(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
