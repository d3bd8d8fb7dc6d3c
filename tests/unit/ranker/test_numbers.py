"""The plain numbers that the model derives: what they say of made histories."""

import numpy as np
import pytest
import torch
from torch import Tensor

from services.ranker.features import (
    Entry,
    EventFacts,
    FeatureState,
    ItemTable,
    Session,
    UserSignals,
    apply,
    event_features,
    model_inputs,
    user_features,
)
from services.ranker.features.schema import WINDOWS_HOURS
from services.ranker.features.vocabulary import Counter
from services.ranker.training.numbers import (
    BELIEVED_STEPS,
    EVENT_ROW_NUMBERS,
    NEARNESS,
    TIME_NUMBERS,
    TYPE_NUMBERS,
    USER_NUMBERS,
    event_numbers,
    time_numbers,
    type_numbers,
    user_numbers,
)

NOW = 1_700_000_000
DAY = 86400
FIRST_RECENCY = (len(Counter) + 8) * len(WINDOWS_HOURS)
FIRST_NEARNESS = FIRST_RECENCY + 5


def inputs(*histories: list[Entry]) -> dict[str, Tensor]:
    items = ItemTable()
    items.count("seen", sends=88, opens=11)
    states = [apply(FeatureState(), history) for history in histories]
    users = user_features(states, [UserSignals()] * len(states), NOW, items)
    events = [EventFacts("a", ("seen",)), EventFacts("a", ("new",), create_time=NOW - 2 * DAY)]
    made = model_inputs(users, event_features(events, NOW, items), np.zeros(2, np.int32), items)
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in made.items()}


def sessions(hours_ago: list[float]) -> list[Entry]:
    return [Session(NOW - int(hours * 3600), f"s{hours}") for hours in hours_ago]


def test_a_user_without_history_has_finite_numbers() -> None:
    made = inputs([])
    shapes = {
        user_numbers: (1, USER_NUMBERS),
        time_numbers: (1, TIME_NUMBERS),
        event_numbers: (2, EVENT_ROW_NUMBERS),
        type_numbers: (2, TYPE_NUMBERS),
    }
    for numbers, shape in shapes.items():
        assert numbers(made).shape == shape
        assert torch.isfinite(numbers(made)).all()


def test_an_items_rate_does_not_fall_because_nothing_was_sent_yet() -> None:
    rates = event_numbers(inputs([]))[:, 4]
    assert rates[0] == pytest.approx(np.log(12 / 96), abs=1e-4)
    assert rates[1] == pytest.approx(np.log(1 / 8), abs=1e-4)


def test_an_events_age_is_told_in_days() -> None:
    assert event_numbers(inputs([]))[:, 3].tolist() == pytest.approx([0, 2], abs=1e-4)


def test_habits_are_near_at_their_own_hour() -> None:
    at_this_hour = sessions([24, 48, 72, 96])
    at_the_other = sessions([12, 36, 60, 84])
    near, far = user_numbers(inputs(at_this_hour, at_the_other))[:, FIRST_NEARNESS]
    even = np.exp(NEARNESS[0][1] * (np.cos(np.linspace(-np.pi, np.pi, 10_001)[1:]) - 1)).mean()
    steps = 4 + BELIEVED_STEPS
    assert near == pytest.approx(np.log((4 / even + BELIEVED_STEPS) / steps), abs=1e-4)
    assert far == pytest.approx(
        np.log((4 * np.exp(-2 * NEARNESS[0][1]) / even + BELIEVED_STEPS) / steps), abs=1e-4
    )


def test_the_visit_of_this_moment_is_no_habit() -> None:
    none, now = user_numbers(inputs([], sessions([0.5])))[:, FIRST_NEARNESS]
    assert none == now == 0


def test_recent_steps_fade() -> None:
    (row,) = user_numbers(inputs(sessions([6, 30])))[:, FIRST_RECENCY : FIRST_RECENCY + 5]
    faded = [np.exp(-6 / hours) + np.exp(-30 / hours) for hours in (6, 24, 72)]
    assert row.tolist() == pytest.approx([*faded, np.log(7), np.log(31)], abs=1e-4)
