"""What is asked of the user index, and what is answered. Plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, IntEnum

from services.candidate.sources.arrays import Floats


class Direction(IntEnum):
    """What is asked for, and what for; as in the proto's ScenarioDirection."""

    USERS_TO_ITEM = 1
    USERS_TO_USER = 2
    ITEMS_TO_USER = 3
    ITEMS_TO_SEGMENT = 4

    @property
    def returns_users(self) -> bool:
        """Whether users are returned, rather than items."""
        return self in (Direction.USERS_TO_ITEM, Direction.USERS_TO_USER)


class BudgetUse(Enum):
    """What is done about users to whom a send is impossible now, or of poor value."""

    OFF = "off"
    DISCOUNT = "discount"
    EXCLUDE = "exclude"


class Omission(IntEnum):
    """Why a user or an item is not in an answer; as in the proto."""

    INELIGIBLE = 1
    MIN_RELEVANCE = 2
    FILTER = 3
    NO_CHANNEL = 4
    CAP = 5
    POOL_FULL = 6
    SPREAD_CAP = 7
    TEAM_QUOTA = 8
    REFUSED = 9


@dataclass(frozen=True, eq=False, slots=True)
class NewItem:
    """An item that is not stored."""

    item_id: str
    body: bytes
    """Its stored form."""
    text: Floats | None
    """The vector of its text; None: there is no model."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """How what was recently returned is pushed down."""

    rate: float
    """In [0, 1]."""
    time: timedelta
    """How long something counts as recently returned."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """How the answer is spread over the values of an attribute."""

    attribute: str
    strength: float
    """In [0, 1]: the n-th with the same value has its score multiplied by (1 − strength)ⁿ."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How to choose."""

    count: int = 100
    min_relevance: float = 0.0
    include_interacted: bool = False
    filter: str = ""
    """CEL over the attributes of what is to be found; empty: all."""
    booster: str = ""
    """CEL; empty: 1."""
    rotation: Rotation | None = None
    diversity: Diversity | None = None
    budget: BudgetUse = BudgetUse.OFF
    count_omissions: bool = True
    """False: who is missing need not be counted, which spares a search looking at everybody."""
    scenario: str = ""
    from_scenario: frozenset[str] = frozenset()
    """Which of the parameters the scenario gave."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next page begins: after this score and id."""

    score: float
    id: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of an answer."""

    recommendation_id: str
    moment: datetime
    """The time of the first page."""
    number: int = 0
    after: Place | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What was asked about."""

    direction: Direction
    name: str
    """The item's or user's id; a digest for a group."""


@dataclass(frozen=True, slots=True)
class BudgetSeen:
    """The budgets that an answer used."""

    age: timedelta | None
    """None: they were unknown."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Users or items, best first."""

    subject: Subject
    ids: Sequence[str]
    scores: Sequence[float]
    """Relevance times all factors; by these they are ordered."""
    relevance: Sequence[float]
    """In [0, 1]: the probability of an interaction; of users alike to a user their likeness."""
    counts: Sequence[int]
    """Interactions of each."""
    warm: bool
    """Rests on interactions, not only on popularity or activity."""
    subject_count: int
    """Interactions of the item, the user or the group asked about."""
    group_size: int = 0
    """Users of the group asked about."""
    more: bool = False
    omissions: Mapping[Omission, int] = field(default_factory=dict)
    budget: BudgetSeen | None = None
    """None: not asked for."""
    horizon: timedelta | None = None
    """How far ahead relevance looks; None: the model knows no times, or it is no probability."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer, or the part of one that some of the users give, with the values of its diversity
    attribute."""

    audience: Audience
    groups: Sequence[str] = ()
    """Of each: `=` and the value as text, empty where there is none. Empty: not asked for."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many users an item may interest."""

    user_count: int
    expected_interactions: float
    histogram: Sequence[int]
    """Users by relevance between each bound and the next, the last included."""
    bounds: Sequence[float]
    """Ascending from 0 to 1."""
    deciles: Sequence[float]
    warm: bool
    subject_count: int
    omissions: Mapping[Omission, int]
    budget: BudgetSeen | None
    horizon: timedelta | None
    """As in Audience."""
