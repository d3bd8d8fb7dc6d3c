"""Users matched both ways, in any number of parts, against plain loops."""

from collections.abc import Iterable
from itertools import cycle
from unittest.mock import Mock

import numpy as np
import pytest

from services.candidate import matching
from services.candidate.choosing import Spread
from services.candidate.criteria import Criteria
from services.candidate.expressions import Columns, compile_booster, compile_filter
from services.candidate.index import IndexState
from services.candidate.index.prediction import Prediction
from services.candidate.judging import Judge
from services.candidate.match_part import MatchPart
from services.candidate.matching import match
from services.candidate.questions import (
    Audience,
    BudgetUse,
    Choice,
    Diversity,
    Omission,
    Page,
    Place,
)
from services.candidate.sources import Catalogue
from services.candidate.sources.arrays import Floats, Mask, Rows
from tests.unit.candidate.people import NOW, people

USERS = 200
NAMES = [f"u{number:03}" for number in range(USERS)]


@pytest.fixture(scope="module")
def liking() -> Mask:
    """Who likes something."""
    return np.random.default_rng(5).random(USERS) < 0.9


@pytest.fixture(scope="module")
def tastes() -> Floats:
    """Crowded in some directions, so that who is near to one has others who are nearer; and some
    have the very same."""
    found = (np.random.default_rng(2).standard_normal((USERS, 3)) ** 3).astype(np.float32)
    found[150:170] = found[100]
    return found


class World:
    """The users in so many parts."""

    def __init__(
        self, tastes: Floats, liking: Mask, parts: int, booster: str = "", strength: float = -1.0
    ) -> None:
        """`strength`: of the spread; −1: none is asked for."""
        self._tastes = tastes
        self._liking = liking
        self._booster = booster
        self._strength = strength
        self._rows = [np.arange(number, USERS, parts) for number in range(parts)]

    async def match(self, user: int, count: int, before: Audience | None = None) -> Audience:
        """The answer for a user, or the page behind another."""
        diversity = None if self._strength < 0 else Diversity("country", self._strength)
        parts = [self._part(user, rows) for rows in self._rows]
        after = before and Place(before.scores[-1], before.ids[-1])
        choice, page = Choice(count=count, diversity=diversity), Page("r", NOW, after=after)
        return await match(parts, self._tastes[user], choice, page)

    async def pages(self, user: int, counts: Iterable[int]) -> list[Audience]:
        """One after the other, of these sizes in turn, to the end."""
        found: list[Audience] = []
        for count in cycle(counts):
            if found and not found[-1].more:
                break
            found.append(await self.match(user, count, found[-1] if found else None))
        return found

    def brute_force(self, user: int) -> Floats:
        """The score of everybody for a user, by loops over all pairs."""
        exact = self._tastes.astype(np.float64)
        units = exact / np.linalg.norm(exact, axis=1, keepdims=True)
        likes = np.flatnonzero(self._liking).tolist()

        def nearer(asked: int, than: int) -> int:
            own = units[asked] @ units[than]
            others = (row for row in likes if row not in (asked, than))
            return sum(bool(units[asked] @ units[row] > own + matching.SAME) for row in others)

        found = np.full(USERS, -np.inf, np.float32)
        others = len([row for row in likes if row != user]) - 1
        for other in likes:
            if other != user:
                found[other] = 1 - max(nearer(user, other), nearer(other, user)) / others
        return self._judge(people(USERS, 1)).judge(np.arange(USERS), found).scores

    def _part(self, user: int, rows: Rows) -> MatchPart:
        likes = np.flatnonzero(self._liking[rows])
        catalogue = Catalogue.build(
            [NAMES[row] for row in rows], ["i"], likes, np.zeros_like(likes), np.ones(len(likes))
        )
        judge = self._judge(people(USERS, 1, rows.tolist()))
        prediction = Mock(spec=Prediction, user_tastes=self._tastes[rows])
        state = Mock(
            spec=IndexState,
            catalogue=catalogue,
            prediction=prediction,
            user_columns=judge.columns,
        )
        spread = None
        if self._strength >= 0:
            spread = Spread(judge.columns, "country", self._strength)
        return MatchPart(state, NAMES[user], self._tastes[user], Criteria(judge, spread, None))

    def _judge(self, columns: Columns) -> Judge:
        matches = compile_filter("!has(user.visits) || user.visits != 2", columns.schema)
        booster = compile_booster(self._booster, columns.schema) if self._booster else None
        return Judge(columns, NOW, 0.0, matches, booster, None, None, BudgetUse.OFF)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("user", [11, 100])
@pytest.mark.parametrize("booster", ["", 'user.country == "DE" ? 2.0 : 0.5'])
async def test_matches_are_those_of_brute_force(
    tastes: Floats,
    liking: Mask,
    monkeypatch: pytest.MonkeyPatch,
    parts: int,
    user: int,
    booster: str,
) -> None:
    monkeypatch.setattr(matching, "MATCHED_AT_ONCE", 8)
    world = World(tastes, liking, parts, booster)
    wanted = world.brute_force(user)
    order = sorted(np.flatnonzero(wanted >= 0).tolist(), key=lambda row: (-wanted[row], NAMES[row]))
    for count in (1, 10, USERS):
        found = await world.match(user, count)
        assert found.scores == wanted[order[:count]].tolist()
        assert found.ids == [NAMES[row] for row in order[:count]]
        assert found.more == (count < len(order))
    left = USERS - len(order)
    ineligible = int(np.count_nonzero(~liking)) + int(liking[user])
    assert found.omissions == {
        Omission.INELIGIBLE: ineligible,
        Omission.FILTER: left - ineligible,
    }


@pytest.mark.parametrize("strength", [0.0, 0.4])
async def test_any_parts_give_one_answer_with_a_spread_too(
    tastes: Floats, liking: Mask, strength: float
) -> None:
    first, *others = [
        await World(tastes, liking, parts, strength=strength).match(60, 40) for parts in (1, 2, 7)
    ]
    assert others == [first, first]
    plain = await World(tastes, liking, 1).match(60, 40)
    assert (first.ids == plain.ids) == (strength == 0.0)


@pytest.mark.parametrize("strength", [-1.0, 0.4])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("user", [11, 100])
async def test_pages_fit_together(
    tastes: Floats,
    liking: Mask,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    parts: int,
    strength: float,
) -> None:
    """Also where many have one score."""
    monkeypatch.setattr(matching, "MATCHED_AT_ONCE", 8)
    some = 'has(user.country) && user.country == "DE" ? 2.0 : 0.0'
    world = World(tastes, liking, parts, some, strength)
    whole = await world.match(user, USERS)
    assert len(set(whole.scores)) < len(whole.scores) / 2
    pages = await world.pages(user, [3, 40, 17])
    assert [name for page in pages for name in page.ids] == whole.ids
    assert [score for page in pages for score in page.scores] == whole.scores
    assert all(page.omissions == whole.omissions for page in pages)


@pytest.mark.parametrize("strength", [-1.0, 0.5])
@pytest.mark.parametrize("parts", [1, 3])
async def test_no_more_are_looked_at_than_stated(
    tastes: Floats, liking: Mask, monkeypatch: pytest.MonkeyPatch, parts: int, strength: float
) -> None:
    """On all pages together, whatever a later one asks for."""
    monkeypatch.setattr(matching, "MOST_MATCHED", 40)
    world = World(tastes, liking, parts, strength=strength)
    for count in (20, 39, 40, 60):
        found = await world.match(11, count)
        assert (len(found.ids), found.more) == (count, count < 40)
    assert [len(page.ids) for page in await world.pages(11, [15])] == [15, 15, 10]
    first, second = await world.pages(11, [15, 60])
    assert {*first.ids, *second.ids} == {*(await world.match(11, 40)).ids}
    if strength > 0:
        assert len(await _all_looked_at(world, monkeypatch)) == 40


async def test_looking_ends_when_no_further_one_can_be_among_the_best(
    tastes: Floats, liking: Mask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "MATCHED_AT_ONCE", 8)
    world = World(tastes, liking, 2)
    first = await _all_looked_at(world, monkeypatch)
    assert 3 < len(first) < USERS / 2
    second = await _all_looked_at(world, monkeypatch, await world.match(11, 3))
    assert second[: len(first)] == first
    assert len(second) < USERS / 2


async def _all_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch, before: Audience | None = None
) -> list[float]:
    """Relevance of all who are looked at for the three best, of all or behind a page."""
    found: list[float] = []
    scores = MatchPart.scores

    async def kept(part: MatchPart, places: Rows, relevance: Floats) -> Floats:
        found.extend(relevance.tolist())
        return await scores(part, places, relevance)

    with monkeypatch.context() as patch:
        patch.setattr(MatchPart, "scores", kept)
        await world.match(11, 3, before)
    return found
