"""The replay: real people's tastes, played for a few days against the running system.

`run` only needs the services' addresses; it calls their public gRPC methods and nothing else.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from time import perf_counter

from heliograph.pacer.v1alpha1 import pacer_pb2

from services.runtime.clock import at
from services.runtime.settings import RuntimeSettings
from simulation import populate
from simulation.baselines import Baselines, baselines
from simulation.connection import Services, connected
from simulation.days import DayFacts, Play, Progress, channel_name
from simulation.movielens import MovieLens
from simulation.recipients import reaches
from simulation.responses import Responder
from simulation.results import (
    DayResult,
    Message,
    ReplayResult,
    SendRecord,
    lifts,
    open_rates,
    sent_by_channel_and_arm,
)
from simulation.world import DEFAULT_START, REPLAY_CUT, make_world, some_users

EXAMPLES = 3

NATURE = """\
What this is: a simulation on MovieLens 100K. The users, their ratings and the films are real; that
notifications were sent is not. A user opens a film that they rated 4 or 5 in the last 30 % of their
ratings, dismisses one that they rated 1 to 3 there, and ignores all others, on every channel and at
every hour alike. So the open rates compare ways to choose a film, and predict nothing about real
notifications: a film that a user never rated counts as ignored, though they might have liked it.
Most users rated everything in one or two sittings; their real dates can't drive the days."""
"""Said with every table of the replay."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay. `start` must be midnight UTC; `users` None means all."""

    days: int = 3
    users: int | None = None
    target: float = 0.8
    """Sends per user and day, over all channels."""
    seed: int = 1
    candidates: int = 3
    """What each source may suggest to a user a day."""
    start: datetime = DEFAULT_START

    def __post_init__(self) -> None:
        midnight = self.start.tzinfo is not None and self.start.timestamp() % 86_400 == 0
        if not midnight:
            raise ValueError(f"the start must be midnight UTC, not {self.start.isoformat()}")
        if self.days < 1 or (self.users is not None and self.users < 1):
            raise ValueError("days and users must be 1 or more")
        if not 1 <= self.candidates <= 100:
            raise ValueError("the candidates must be from 1 to 100 per source, user and day")
        if not 0 <= self.target <= 10:
            raise ValueError("the target must be from 0 to 10 sends per user and day")


async def run(
    addresses: Mapping[str, str],
    options: ReplayOptions,
    progress: Progress,
    data: MovieLens,
    settings: RuntimeSettings | None = None,
) -> ReplayResult:
    """Replay days against the services at these addresses (`host:port` by name).

    The services must run in simulation mode on a fresh database. `settings` say how to connect.
    Raises ReplayError when a service refuses something or can't be reached.
    """
    world = make_world(some_users(data, options.users, options.seed), REPLAY_CUT, options.start)
    reference = baselines(world)
    async with connected(addresses, settings) as services:
        play = Play(
            services=services,
            world=world,
            reaches=reaches(world, options.seed),
            responder=Responder(world, options.seed),
            target=options.target,
            candidates=options.candidates,
        )
        setup = await _set_up(play, options.seed, progress)
        facts = [await play.play_day(day, progress) for day in range(options.days)]
        messages = await _messages(services, play, options)
    return ReplayResult(
        options={**asdict(options), "start": options.start.isoformat()},
        users=len(world.data.users),
        items=len(world.data.items),
        interactions=len(world.history),
        setup=setup,
        days=[_day_result(play, day, found, reference) for day, found in enumerate(facts)],
        opens=open_rates(play.sends, reference),
        lifts=lifts(play.sends, reference, options.seed),
        messages=messages,
        sends=play.sends,
    )


async def _set_up(play: Play, seed: int, progress: Progress) -> dict[str, float]:
    """Tell the services what is known; wall seconds of each part."""
    services, world = play.services, play.world
    parts: dict[str, Callable[[], Awaitable[None]]] = {
        "event type": lambda: populate.register_event_type(services),
        "items": lambda: populate.store_items(services, world, seed),
        "users": lambda: populate.store_users(services, world),
        "history": lambda: populate.store_history(services, world),
        "recipients": lambda: populate.store_recipients(services, world, play.reaches),
        "sittings": lambda: populate.report_sittings(services, world),
    }
    progress.begin("History", len(parts))
    wall: dict[str, float] = {}
    with at(world.start - timedelta(seconds=1)):
        for name, tell in parts.items():
            begin = perf_counter()
            await tell()
            wall[name] = perf_counter() - begin
            progress.advance()
    return wall


def _day_result(play: Play, day: int, facts: DayFacts, reference: Baselines) -> DayResult:
    sends = [send for send in play.sends if send.day == day]
    decided = Counter(each.arm for each in play.decisions.values() if each.day == day)
    by_channel: defaultdict[str, list[SendRecord]] = defaultdict(list)
    for send in sends:
        by_channel[send.channel].append(send)
    return DayResult(
        day=f"{play.world.start + timedelta(days=day):%Y-%m-%d}",
        sources=facts.sources,
        decided=decided.total(),
        sent=sent_by_channel_and_arm(sends),
        decided_by_arm=dict(sorted(decided.items())),
        volume=facts.volume,
        opens=open_rates(sends, reference),
        opens_by_channel={
            channel: open_rates(some, reference) for channel, some in sorted(by_channel.items())
        },
        stages=facts.stages,
        wall_s=facts.wall_s,
    )


async def _messages(services: Services, play: Play, options: ReplayOptions) -> list[Message]:
    """A few of the messages that were opened, as their users find them in the inbox."""
    users: list[str] = []
    for send in reversed(play.sends):
        user_id = play.world.data.users[send.user].user_id
        if send.opened and user_id not in users:
            users.append(user_id)
    found = []
    with at(play.world.start + timedelta(days=options.days, seconds=-1)):
        for user_id in users[:EXAMPLES]:
            request = pacer_pb2.ReadInboxRequest(user_id=user_id, page_size=1)
            for message in (await services.pacer.ReadInbox(request)).messages:
                channel = channel_name(message.channel)
                found.append(Message(user_id, channel, message.title, message.body))
    return found
