"""What the service and a shard of its index are both put together from."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from heliograph.policy.v1alpha1 import policy_pb2_grpc

from services.candidate.asking import Answers, DailyGeneration
from services.candidate.audiences import Audiences
from services.candidate.budget import Budgets
from services.candidate.budget_reading import BudgetReader
from services.candidate.criteria import CriteriaReader
from services.candidate.event_types import EventTypes
from services.candidate.generation import FriendsElsewhere, GenerationOptions, Generator
from services.candidate.index import IndexOptions, IndexView, UserIndex
from services.candidate.index.model_folder import ModelFolder
from services.candidate.index.share import Share
from services.candidate.ordering import IndexRanker, ItemRanker
from services.candidate.publisher import Publisher
from services.candidate.rotation import Recommendations
from services.candidate.settings import CandidateSettings
from services.candidate.sources.availability import AvailabilityOptions
from services.runtime import Host

BUDGET_INTERVAL = timedelta(seconds=10)
"""How often budgets that are in use are looked at."""


@dataclass(frozen=True, slots=True)
class Engines:
    """What rests on the user index."""

    types: EventTypes
    publisher: Publisher
    ranker: ItemRanker
    recommendations: Recommendations
    audiences: Answers
    generator: DailyGeneration


async def open_index(
    host: Host, settings: CandidateSettings, share: Share | None = None
) -> UserIndex:
    """The user index of this process, loaded and followed. Raises ConfigurationError for a shard
    without a model."""
    options = IndexOptions(settings.refit_interval, settings.fit_seed, settings.fit_threads)
    path = settings.model_folder
    folder = None if path is None else ModelFolder(path, host.log)
    index = UserIndex(host.database, host.clock, options, folder, share)
    await index.fitted()

    async def refresh(_now: datetime) -> None:
        await index.fitted()

    host.periodic("refresh_index", settings.refresh_interval, refresh)
    return index


def open_criteria(
    host: Host, settings: CandidateSettings, index: UserIndex, given: Recommendations
) -> CriteriaReader:
    """What judges answers of an index, with budgets that are kept fresh while they are in use."""
    policy = policy_pb2_grpc.PolicyServiceStub(host.peers.channel("policy"))
    reader = BudgetReader(host.database, policy, host.clock, settings.pool_size)
    budgets = Budgets(reader, host.clock, host.log)

    async def keep_budgets(now: datetime) -> None:
        await budgets.keep_fresh(index.state.catalogue.user_ids, now)

    host.periodic("read_budgets", BUDGET_INTERVAL, keep_budgets)
    return CriteriaReader(given, budgets, host.clock)


def make_publisher(
    host: Host, settings: CandidateSettings, types: EventTypes, ranker: ItemRanker
) -> Publisher:
    """The way into the pool."""
    return Publisher(
        host.database,
        types,
        ranker,
        pool_size=settings.pool_size,
        tolerance=settings.clock_tolerance,
    )


def make_generator(
    host: Host,
    settings: CandidateSettings,
    index: IndexView,
    types: EventTypes,
    publisher: Publisher,
    friends: FriendsElsewhere | None = None,
) -> Generator:
    """Daily generation for the users of an index; `friends` as in `Generator`."""
    options = GenerationOptions(
        event_type=settings.generated_event_type,
        chunk=settings.generate_chunk,
        repeat_horizon=settings.repeat_horizon,
        fresh_window=settings.fresh_window,
        friend_window=settings.friend_window,
        availability=AvailabilityOptions(
            settings.least_availability,
            settings.availability_half_life / timedelta(days=1),
            settings.exploration_share,
        ),
    )
    return Generator(host.database, host.clock, index, types, publisher, options, host.log, friends)


async def open_engines(host: Host, settings: CandidateSettings) -> Engines:
    """The engines of a service that holds the whole index itself."""
    index = await open_index(host, settings)
    types, ranker = EventTypes(host.database), IndexRanker(index)
    publisher = make_publisher(host, settings, types, ranker)
    recommendations = Recommendations(host.database)
    return Engines(
        types=types,
        publisher=publisher,
        ranker=ranker,
        recommendations=recommendations,
        audiences=Audiences(index, open_criteria(host, settings, index, recommendations)),
        generator=make_generator(host, settings, index, types, publisher),
    )
