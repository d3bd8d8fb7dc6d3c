"""All that was played, as columns: one row per decision, one per session."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ranker.features import Channel
from simulation.known_world.offers import Offers
from simulation.known_world.people import People
from simulation.known_world.play import NOTHING, Played
from simulation.known_world.truth import Truth

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions by user and time. What belongs to a send is 0 where nothing was sent."""

    user: Ints
    """Position of the user."""
    time: Ints
    logged: Bools
    """Of the logged days, not of those that only close the windows."""
    channel: Ints
    """As features number them; 0: nothing sent."""
    item: Ints
    """Position of the item."""
    source: Ints
    """Position in offers.SOURCES."""
    score: Array
    create_time: Ints
    opened: Bools
    dismissed: Bools
    off: Bools
    """The channel was turned off."""
    answer_time: Ints
    propensity: Array
    truth: Array
    """[n, heads]; NaN where there is none, as in all decisions that aren't logged."""
    unsent: Array
    """[n, heads]: had nothing been sent; sessions and app deletes alone."""

    def __len__(self) -> int:
        return len(self.user)

    def decision_ids(self, names: Sequence[str]) -> list[str]:
        """Ids made of the time and the user's name."""
        return [
            f"{datetime.fromtimestamp(time, UTC):%Y%m%dT%H%M}:{names[user]}"
            for time, user in zip(self.time.tolist(), self.user.tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Record:
    """Decisions, sessions and users of one or more blocks."""

    decisions: Decisions
    session_user: Ints
    session_time: Ints
    """By user and time."""
    deleted: Ints
    """Per user, when the app was deleted; NOTHING: it wasn't."""
    joined: Ints
    time_zone: list[str]


def record(
    people: People, offers: Offers, played: Played, truth: Truth, logged_slots: int
) -> Record:
    """The record of one block."""
    user, slot = np.nonzero(played.here)
    cell = (user, slot)
    offer = (user, slot, played.offer[cell])
    sent = played.channel[cell] != NOTHING
    time = people.slots[:, :-1][cell]
    probabilities = np.full((2, *played.here.shape, truth.decided.shape[2]), np.nan)
    probabilities[:, :, :logged_slots] = truth.decided, truth.unsent
    decisions = Decisions(
        user=user,
        time=time,
        logged=slot < logged_slots,
        channel=np.where(sent, played.channel[cell] + Channel.PUSH, 0),
        item=offers.item[offer] * sent,
        source=offers.source[offer].astype(np.int64) * sent,
        score=offers.score[offer] * sent,
        create_time=(time - offers.age_s[offer]) * sent,
        opened=played.opened[cell],
        dismissed=played.dismissed[cell],
        off=played.off[cell],
        answer_time=(time + played.delay[cell]) * sent,
        propensity=played.propensity[cell],
        truth=probabilities[0][cell],
        unsent=probabilities[1][cell],
    )
    return Record(
        decisions,
        played.session_user,
        played.session_time,
        played.deleted,
        people.joined,
        people.time_zone,
    )


def together(records: Sequence[Record]) -> Record:
    """The records of several blocks, users numbered on."""
    before = np.cumsum([0, *(len(each.joined) for each in records)]).tolist()
    columns: dict[str, NDArray[Any]] = {
        field.name: np.concatenate([getattr(each.decisions, field.name) for each in records])
        for field in fields(Decisions)
    }
    moved = [each.decisions.user + first for each, first in zip(records, before, strict=False)]
    columns["user"] = np.concatenate(moved)
    sessions = [each.session_user + first for each, first in zip(records, before, strict=False)]
    return Record(
        Decisions(**columns),
        np.concatenate(sessions),
        np.concatenate([each.session_time for each in records]),
        np.concatenate([each.deleted for each in records]),
        np.concatenate([each.joined for each in records]),
        [zone for each in records for zone in each.time_zone],
    )
