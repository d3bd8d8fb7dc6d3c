"""One round of the bootstrap log: days of uniformly random sends, hour by hour."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from services.policy.contexts import SlotRule
from services.policy.segments import ActiveDays
from services.ranker.features import (
    HEADS,
    Channel,
    Decision,
    Engagement,
    EngagementKind,
    Entry,
    EventFacts,
    Features,
    Head,
    ItemTable,
    Send,
    Session,
    apply,
    seconds,
    user_features,
)
from services.ranker.training.log import Examples, unlabelled
from simulation.populate import ACTIVITY_DAYS, EVENT_TYPE, TIME_TO_LIVE
from simulation.recipients import Reach, reaches
from simulation.responses import Reaction, Responder, Response
from simulation.snapshots import Profile, off_kind, open_kind, sent_features
from simulation.suggestions import Suggestions
from simulation.world import World, first_seen, sittings

SEND_PROBABILITY = 0.5
OPEN_HEADS = {
    Channel.PUSH: Head.PUSH_OPEN,
    Channel.EMAIL: Head.EMAIL_CLICK,
    Channel.IN_APP: Head.INAPP_CLICK,
}
OFF_HEADS = {Channel.PUSH: Head.PUSH_DISABLE, Channel.EMAIL: Head.EMAIL_UNSUBSCRIBE}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An event in a user's pool."""

    item: int
    source: str
    score: float
    made: datetime


@dataclass(slots=True)
class Person:
    """One user: how they are reached, what the services know, what waits for them."""

    reach: Reach
    profile: Profile
    channels: list[Channel]
    pool: list[Suggestion] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was sent at one slot, and how the user took it."""

    channel: Channel
    suggestion: Suggestion
    response: Response


class Round:
    """A fresh deployment. Days are played in order, each once."""

    def __init__(self, world: World, number: int, seed: int, items: ItemTable) -> None:
        self.sends = self.opens = self.turned_off = 0
        self._world = world
        self._number = number
        self._items = items
        self._random = np.random.default_rng((seed, number))
        self._responder = Responder(world, seed * 1000 + number)
        self._people = _people(world, seed)

    def play_day(self, day: int, daily: Suggestions) -> Iterator[Examples]:
        """Decide at all slots of one day, from 0; one batch of examples per hour with slots."""
        start = self._world.start + timedelta(days=day)
        self._fill_pools(daily, start)
        for now, users in self._slots(start):
            yield self._decide(now, users)

    def _fill_pools(self, daily: Suggestions, now: datetime) -> None:
        for person in self._people:
            person.pool = [each for each in person.pool if each.made + TIME_TO_LIVE > now]
        columns = (daily.user, daily.item, daily.source, daily.score)
        for user, item, source, score in zip(*(each.tolist() for each in columns), strict=True):
            self._people[user].pool.append(Suggestion(item, source, score, now))

    def _slots(self, start: datetime) -> list[tuple[datetime, list[int]]]:
        """Moments of the day with the users whose slot it is, in order of time."""
        due: dict[datetime, list[int]] = {}
        rule = SlotRule(count=24)
        for row, person in enumerate(self._people):
            before = start - timedelta(seconds=1)
            times = rule.next_slots(before, person.reach.time_zone, person.reach.slot_hours)
            for moment in times:
                if moment < start + timedelta(days=1):
                    due.setdefault(moment, []).append(row)
        return sorted(due.items())

    def _decide(self, now: datetime, users: Sequence[int]) -> Examples:
        moment = seconds(now)
        people = [self._people[user] for user in users]
        features = user_features(
            [person.profile.features for person in people],
            [person.profile.signals(now) for person in people],
            moment,
            self._items,
        )
        ids = [f"{self._number}:{now:%Y%m%dT%H%M}:{self._user_id(user)}" for user in users]
        drawn = [self._draw(user, key) for user, key in zip(users, ids, strict=True)]
        examples = Examples(
            decision_id=ids,
            user_id=[self._user_id(user) for user in users],
            time=np.full(len(users), moment, np.int64),
            channel=np.array([each.channel if each else Channel.NONE for each in drawn], np.int8),
            log_probability=np.ones(len(users), np.float32),
            labels=_labels(drawn),
            users=features,
            events=self._event_features(drawn, moment),
        )
        for person, key, each in zip(people, ids, drawn, strict=True):
            self._remember(person, key, now, each)
        return examples

    def _user_id(self, user: int) -> str:
        return self._world.data.users[user].user_id

    def _draw(self, user: int, key: str) -> Drawn | None:
        person = self._people[user]
        if self._random.random() >= SEND_PROBABILITY or not person.pool or not person.channels:
            return None
        suggestion = person.pool.pop(int(self._random.integers(len(person.pool))))
        channel = person.channels[int(self._random.integers(len(person.channels)))]
        return Drawn(channel, suggestion, self._responder.respond(user, suggestion.item, key))

    def _event_features(self, drawn: Sequence[Drawn | None], moment: int) -> Features:
        facts = [
            EventFacts(
                event_type=EVENT_TYPE,
                item_ids=[self._world.data.items[each.suggestion.item].item_id],
                source=each.suggestion.source,
                source_score=each.suggestion.score,
                create_time=seconds(each.suggestion.made),
            )
            if each
            else None
            for each in drawn
        ]
        return sent_features(facts, moment, self._items)

    def _remember(self, person: Person, key: str, now: datetime, drawn: Drawn | None) -> None:
        """Tell the features what happened: entries as they will be in policy's feed."""
        entries: list[Entry] = [Decision(seconds(now), key, drawn is not None)]
        if drawn:
            item_id = self._world.data.items[drawn.suggestion.item].item_id
            score = drawn.suggestion.score
            entries.append(Send(seconds(now), key, drawn.channel, EVENT_TYPE, [item_id], score))
            kinds = _kinds(drawn)
            answered = now + drawn.response.delay
            entries += [
                Engagement(
                    seconds(answered),
                    f"{key}:{kind}",
                    kind,
                    drawn.channel,
                    EVENT_TYPE,
                    [item_id],
                    seconds(now),
                )
                for kind in kinds
            ]
            self._count(person, item_id, answered, drawn)
        person.profile.features = apply(person.profile.features, entries)

    def _count(self, person: Person, item_id: str, answered: datetime, drawn: Drawn) -> None:
        opened = drawn.response.reaction is Reaction.OPEN
        score = drawn.suggestion.score
        self._items.count(item_id, sends=1, opens=int(opened), source_score=score)
        if opened:
            person.profile.notice(answered)
        if drawn.response.disables:
            person.channels.remove(drawn.channel)
        self.sends += 1
        self.opens += opened
        self.turned_off += drawn.response.disables


def _people(world: World, seed: int) -> list[Person]:
    """The users as the services know them on the first day, with the sessions of the last weeks."""
    joined = first_seen(world)
    people = []
    for reach in reaches(world, seed):
        channels = [Channel.IN_APP]
        channels += [Channel.PUSH] if reach.push else []
        channels += [Channel.EMAIL] if reach.email else []
        active = ActiveDays((world.start - timedelta(days=ACTIVITY_DAYS)).date())
        profile = Profile(reach.time_zone, joined[reach.user], active)
        people.append(Person(reach, profile, channels))
    for sitting in sittings(world, world.start - timedelta(days=ACTIVITY_DAYS)):
        profile = people[sitting.user].profile
        profile.notice(sitting.start.astimezone(UTC))
        session = Session(seconds(sitting.start), f"sitting-{seconds(sitting.start)}")
        profile.features = apply(profile.features, [session])
    return people


def _kinds(drawn: Drawn) -> list[EngagementKind]:
    kinds = []
    if drawn.response.reaction is Reaction.OPEN:
        kinds.append(open_kind(drawn.channel))
    elif drawn.response.reaction is Reaction.DISMISS:
        kinds.append(EngagementKind.DISMISS)
    if drawn.response.disables:
        kinds.append(off_kind(drawn.channel))
    return kinds


def _labels(drawn: Sequence[Drawn | None]) -> npt.NDArray[np.int8]:
    """Labels of the channel that was sent through; all others, and no-sends, are masked."""
    labels = unlabelled(len(drawn))
    for row, each in enumerate(drawn):
        if each is None:
            continue
        opened = each.response.reaction is Reaction.OPEN
        labels[row, HEADS.index(OPEN_HEADS[each.channel])] = opened
        if off := OFF_HEADS.get(each.channel):
            labels[row, HEADS.index(off)] = each.response.disables
    return labels
