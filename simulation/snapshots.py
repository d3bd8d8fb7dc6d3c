"""What the services would know at a decision, for logs that are made without the services."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from services.policy import hour_profile
from services.policy.segments import ActiveDays, segment_of
from services.ranker.features import (
    Channel,
    EngagementKind,
    EventFacts,
    Features,
    FeatureState,
    ItemTable,
    UserSignals,
    content_vector,
    event_features,
)
from services.ranker.training.log import no_event
from simulation.movielens import ITEM_TYPE, MovieLens

LOCALE = "en"


@dataclass(slots=True)
class Profile:
    """One user, as policy and the ranker know them."""

    time_zone: str
    joined: datetime
    active: ActiveDays
    hours: hour_profile.Counts = field(default_factory=hour_profile.no_counts)
    features: FeatureState = field(default_factory=FeatureState)

    def notice(self, moment: datetime) -> None:
        """Count a session, an open or a click."""
        self.active = self.active.marked(moment.date())
        hour = hour_profile.hour_of_week(moment, self.time_zone)
        self.hours = hour_profile.counted(self.hours, [hour])

    def signals(self, now: datetime) -> UserSignals:
        """What policy would tell the ranker."""
        return UserSignals(
            segment=segment_of(self.joined.date(), self.active, now.date()),
            time_zone=self.time_zone,
            locale=LOCALE,
            hour_profile=hour_profile.profile(self.hours).tolist() or None,
        )


def item_table(data: MovieLens) -> ItemTable:
    """The catalogue as features see it before anything was sent."""
    table = ItemTable()
    for item in data.items:
        table.put(item.item_id, 1, content_vector(item.title, ITEM_TYPE, item.attributes))
    return table


def sent_features(events: Sequence[EventFacts | None], moment: int, items: ItemTable) -> Features:
    """EVENT_FEATURES of the events sent by these decisions; all 0 where nothing was sent."""
    features = no_event(len(events))
    sent = np.flatnonzero([event is not None for event in events])
    if len(sent):
        facts = [event for event in events if event is not None]
        for name, array in event_features(facts, moment, items).items():
            features[name][sent] = array
    return features


def open_kind(channel: Channel) -> EngagementKind:
    """How a notification's opening is reported: of a push as an open, of others as a click."""
    return EngagementKind.OPEN if channel is Channel.PUSH else EngagementKind.CLICK


def off_kind(channel: Channel) -> EngagementKind:
    """How turning a channel off is reported: e-mail is unsubscribed, others are disabled."""
    return EngagementKind.UNSUBSCRIBE if channel is Channel.EMAIL else EngagementKind.DISABLE
