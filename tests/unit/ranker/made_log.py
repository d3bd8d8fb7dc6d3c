"""A small made log with a truth to find: opens follow the taste for a genre and the hour."""

import numpy as np

from services.ranker.features import (
    HEADS,
    Channel,
    Engagement,
    EngagementKind,
    Entry,
    EventFacts,
    FeatureState,
    Head,
    ItemTable,
    Send,
    UserSignals,
    apply,
    concatenate,
    content_vector,
    event_features,
    user_features,
)
from services.ranker.training.log import Examples, unlabelled

START = 1_767_225_600  # 2026-01-01T00:00Z
GENRES = ("Action", "Comedy", "Drama", "Horror")


def made_items(count: int = 80) -> ItemTable:
    """Items `i0` … with one genre each, in turn."""
    items = ItemTable()
    for number in range(count):
        genre = GENRES[number % len(GENRES)]
        vector = content_vector("movie", {"genres": [genre]})
        items.put(f"i{number}", 1, vector)
    return items


def made_log(
    users: int = 100, days: int = 30, seed: int = 0, channel: Channel = Channel.PUSH
) -> tuple[Examples, ItemTable]:
    """One send a user and day; opened with probability .6 for items of a genre the user likes
    (user number modulo 4), else .05. The source's score tells which, four times in five."""
    random = np.random.default_rng(seed)
    items = made_items()
    head = HEADS.index(Head.PUSH_OPEN if channel is Channel.PUSH else Head.EMAIL_CLICK)
    states = [FeatureState() for _ in range(users)]
    parts, facts = [], []
    for day in range(days):
        now = START + day * 86400 + 9 * 3600
        chosen = random.integers(len(items), size=users)
        liked = chosen % len(GENRES) == np.arange(users) % len(GENRES)
        opened = random.random(users) < np.where(liked, 0.6, 0.05)
        told = np.where(random.random(users) < 0.8, liked, ~liked)
        events = [
            EventFacts("movie.suggestion", [f"i{item}"], "made", float(score))
            for item, score in zip(chosen, told, strict=True)
        ]
        parts.append(
            (
                user_features(states, [UserSignals("core")] * users, now, items),
                event_features(events, now, items),
            )
        )
        facts += [(day, user, now, bool(hit)) for user, hit in enumerate(opened)]
        for user in range(users):
            items_of_event = [f"i{chosen[user]}"]
            entries: list[Entry] = [
                Send(now, f"{day}-{user}", channel, "movie.suggestion", items_of_event)
            ]
            kind = EngagementKind.OPEN if opened[user] else EngagementKind.DISMISS
            about = (channel, "movie.suggestion", items_of_event, now)
            entries.append(Engagement(now + 600, f"{day}-{user}", kind, *about))
            states[user] = apply(states[user], entries)
    labels = unlabelled(len(facts))
    labels[:, head] = [hit for *_, hit in facts]
    return Examples(
        decision_id=[f"{day}-{user}" for day, user, *_ in facts],
        user_id=[f"u{user}" for _, user, *_ in facts],
        time=np.array([now for _, _, now, _ in facts], np.int64),
        channel=np.full(len(facts), channel, np.int8),
        log_probability=np.ones(len(facts), np.float32),
        labels=labels,
        users=concatenate([part for part, _ in parts]),
        events=concatenate([part for _, part in parts]),
    ), items
