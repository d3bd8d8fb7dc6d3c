"""What the services would know at a decision, for logs that are made without the services."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

import numpy as np
from heliograph.type.v1alpha1 import event_pb2
from numpy.typing import NDArray

from services.candidate.text import MODEL, TextEncoder
from services.candidate.text.item_vectors import STORED, item_text
from services.candidate.text.weights import fetch, model_folder
from services.policy import hour_profile
from services.policy.segments import ActiveDays, segment_of
from services.ranker.features import (
    Channel,
    Embedding,
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
from services.runtime.settings import RuntimeSettings
from simulation.movielens import ITEM_TYPE, Item, MovieLens

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
    vectors = _text_vectors(tuple(map(_text, data.items)))
    for item, vector in zip(data.items, vectors, strict=True):
        embedding = Embedding(MODEL, vector)
        content = content_vector(ITEM_TYPE, item.attributes, embedding)
        table.put(item.item_id, 1, content, embedding)
    return table


def _text(item: Item) -> str:
    return item_text(event_pb2.Item(title=item.title, text=item.text))


@lru_cache(maxsize=1)
def _text_vectors(texts: tuple[str, ...]) -> NDArray[np.float16]:
    """Embeddings [n, d], as candidate makes and stores them. The text model is fetched on first
    use."""
    folder = model_folder(RuntimeSettings().model_dir)
    fetch(folder)
    return TextEncoder(folder, threads=1).embed(texts).astype(STORED)


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
