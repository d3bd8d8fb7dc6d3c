"""Who stands in for new queries where the validation windows hold none: few, whatever the set."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from services.candidate.models import Interactions, newcomers
from services.candidate.models.activity import fit_activity
from services.candidate.models.attributes import Attributes
from services.candidate.models.combination import Lists
from services.candidate.models.context import Clock
from services.candidate.models.newcomers import fit_newcomers
from services.candidate.models.windows import Window, split_at

DAY = 86400.0
USERS, ITEMS = 60, 200
CLOCKS = [Clock(day * DAY, 7 * DAY) for day in (40, 47)]


def all_known() -> tuple[Interactions, list[Window], Attributes]:
    """Users who all come in the first days, and go on to meet items of their kind."""
    generator = np.random.default_rng(0)
    rows = [
        (user, int(generator.integers(ITEMS // 2)) * 2 + user % 2, (day + user / USERS) * DAY)
        for user in range(USERS)
        for day in range(56)
    ]
    users, items, times = zip(*rows, strict=True)
    known = Interactions.of([f"u{each:02}" for each in users], [f"i{each:02}" for each in items],
                            np.array(times))  # fmt: skip
    windows = [split_at(known, clock) for clock in CLOCKS]
    assert not any(window.by_new_users.nnz for window in windows)
    return known, windows, Attributes.of({"kind": [str(user % 2) for user in range(USERS)]}, USERS)


@pytest.mark.parametrize(
    ("wanted", "pairs", "found"),
    [(400, 20_000_000, 20), (8, 20_000_000, 4), (400, ITEMS * 6, 3), (400, 1, 1)],
    ids=["others lend", "so many", "lists as large", "at least one"],
)
def test_stand_ins_are_bounded(
    monkeypatch: pytest.MonkeyPatch, wanted: int, pairs: int, found: int
) -> None:
    """`found`: in each of the two windows, in which all 60 met something."""
    known, windows, attributes = all_known()
    seen: list[int] = []

    def fitted(lists: Sequence[Lists]) -> SimpleNamespace:
        seen.extend(len(each.met) for each in lists)
        return SimpleNamespace(weights=[0.5])

    monkeypatch.setattr(newcomers, "fit_combination", fitted)
    monkeypatch.setattr(newcomers, "STAND_INS", wanted)
    monkeypatch.setattr(newcomers, "LARGEST", pairs)
    activity, _ = fit_activity(known.transposed, CLOCKS[-1])
    assert fit_newcomers(windows, activity, attributes).weight == 0.5
    assert seen == [found, found]


def test_stand_ins_tell_that_those_alike_matter() -> None:
    known, windows, attributes = all_known()
    activity, _ = fit_activity(known.transposed, CLOCKS[-1])
    assert fit_newcomers(windows, activity, attributes).weight > 0.5
    apart = Attributes.of({"kind": [str(user // 2 % 2) for user in range(USERS)]}, USERS)
    assert fit_newcomers(windows, activity, apart).weight < 0.2
