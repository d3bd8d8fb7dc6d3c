"""What the services were told of each user, in order of time, as the ranker reads it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import (
    Channel,
    Decision,
    Engagement,
    EngagementKind,
    Entry,
    Send,
    Session,
)
from simulation.known_world.play import NOTHING
from simulation.known_world.record import Record
from simulation.populate import EVENT_TYPE
from simulation.snapshots import off_kind, open_kind

Ints = NDArray[np.int64]


class Told(IntEnum):
    """What a row of the feed is about."""

    DECISION = 0
    SEND = 1
    OPENED = 2
    DISMISSED = 3
    TURNED_OFF = 4
    SESSION = 5
    DELETED = 6


@dataclass(frozen=True, slots=True)
class News:
    """Entries of one user, and the moments at which the user was active."""

    entries: list[Entry]
    active: list[datetime]


class Feed:
    """Rows by user and time, each user's read once from the beginning on."""

    def __init__(self, record: Record, decision_ids: list[str], item_ids: list[str]) -> None:
        self._decisions = record.decisions
        self._decision_ids = decision_ids
        self._item_ids = item_ids
        user, time, what, about = _rows(record)
        order = np.lexsort((about, what, time, user))
        users = np.arange(len(record.joined) + 1)
        bounds = np.searchsorted(user[order], users).tolist()
        self._next, self._end = bounds[:-1], bounds[1:]
        self._time = time[order].tolist()
        self._what = what[order].tolist()
        self._about = about[order].tolist()

    def news(self, user: int, before: int) -> News:
        """What was told of a user before a moment and not read yet."""
        news = News([], [])
        at, end = self._next[user], self._end[user]
        while at < end and self._time[at] < before:
            what, time = Told(self._what[at]), self._time[at]
            news.entries.append(self._entry(what, time, self._about[at], user))
            if what in (Told.OPENED, Told.SESSION):
                news.active.append(datetime.fromtimestamp(time, UTC))
            at += 1
        self._next[user] = at
        return news

    def _entry(self, what: Told, time: int, about: int, user: int) -> Entry:
        if what is Told.SESSION:
            return Session(time, f"session:{user}:{about}")
        if what is Told.DELETED:
            return Session(time, f"deleted:{user}", app_deleted=True)
        decision_id = self._decision_ids[about]
        channel = Channel(int(self._decisions.channel[about]))
        if what is Told.DECISION:
            return Decision(time, decision_id, channel is not Channel.NONE)
        items = [self._item_ids[int(self._decisions.item[about])]]
        if what is Told.SEND:
            return Send(time, decision_id, channel, EVENT_TYPE, items)
        kind = _kind(what, channel)
        decided = int(self._decisions.time[about])
        key = f"{decision_id}:{kind}"
        return Engagement(time, key, kind, channel, EVENT_TYPE, items, decided)


def _kind(what: Told, channel: Channel) -> EngagementKind:
    match what:
        case Told.OPENED:
            return open_kind(channel)
        case Told.TURNED_OFF:
            return off_kind(channel)
        case _:
            return EngagementKind.DISMISS


def _rows(record: Record) -> tuple[Ints, Ints, Ints, Ints]:
    """User, time, what it is, and the position of the decision or session it is about."""
    made = record.decisions
    every = np.ones(len(made), np.bool_)
    parts = []
    for what, happened, time in (
        (Told.DECISION, every, made.time),
        (Told.SEND, made.channel > 0, made.time),
        (Told.OPENED, made.opened, made.answer_time),
        (Told.DISMISSED, made.dismissed, made.answer_time),
        (Told.TURNED_OFF, made.off, made.answer_time),
    ):
        about = np.flatnonzero(happened)
        parts.append((made.user[about], time[about], np.full(len(about), what), about))
    sessions = np.arange(len(record.session_user))
    told = np.full(len(sessions), Told.SESSION)
    parts.append((record.session_user, record.session_time, told, sessions))
    gone = np.flatnonzero(record.deleted != NOTHING)
    parts.append((gone, record.deleted[gone], np.full(len(gone), Told.DELETED), gone))
    columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return columns[0], columns[1], columns[2], columns[3]
