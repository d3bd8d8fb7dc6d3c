"""Drafts of generated events."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.admission import Admission
from services.candidate.drafting import Drafting, Handled
from services.candidate.events import Event, Route, TypeRules
from services.candidate.messages import decode_event, encode_admitted, encode_event
from services.candidate.sources import Proposals
from services.candidate.sources.arrays import sparse

NOW = datetime(2026, 1, 5, tzinfo=UTC)
RULES = TypeRules("item.suggestion", Route.RANKED, timedelta(days=3), None)
NAMES = ["friend_activity", "popular"]
SOURCES: Any = [SimpleNamespace(name=name, reason=name.upper()) for name in NAMES]
ACTORS = ["ann", "bob", "ünd", "studio"]
STATE: Any = SimpleNamespace(
    catalogue=SimpleNamespace(user_ids=ACTORS[:3], item_ids=["x", "y" * 200]),
    relations=SimpleNamespace(actor_ids=ACTORS),
)
CANDIDATES = st.tuples(
    st.integers(0, 2),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([0.0, 0.25, 1.5]),
    st.lists(st.integers(0, 3), unique=True),
)


@given(st.lists(CANDIDATES))
def test_the_stored_form_of_a_draft_says_what_the_draft_says(
    candidates: list[tuple[int, int, int, float, list[int]]],
) -> None:
    asked = np.array([[True, True], [False, True], [True, False]])
    handled = Handled(NAMES, asked, asked, ~asked)
    drafts, origins = Drafting(STATE, SOURCES, date(2026, 1, 5), RULES.name).drafts(
        np.arange(3), _proposals(candidates), handled
    )
    kept = [each for each in candidates if asked[each[0], each[2]]]
    assert origins.tolist() == [[user, source] for user, _, source, _, _ in kept]
    for draft, (user, item, source, score, actors) in zip(drafts, kept, strict=True):
        event = Admission({RULES.name: RULES}, NOW, tolerance=timedelta(0)).admit([draft])[0]
        assert isinstance(event, Event)
        assert decode_event(encode_admitted(draft, event)) == decode_event(encode_event(event))
        assert event.user_id == ACTORS[user]
        assert event.item_ids == (STATE.catalogue.item_ids[item],)
        assert event.payload == {"reason": NAMES[source].upper()}
        assert (event.source, event.source_score) == (NAMES[source], min(score, 1.0))
        assert sorted(event.actor_ids) == sorted(ACTORS[actor] for actor in actors)


def _proposals(candidates: list[tuple[int, int, int, float, list[int]]]) -> Proposals:
    users, items, sources, scores = (
        np.array([each[column] for each in candidates]) for column in range(4)
    )
    pairs = [(n, actor) for n, each in enumerate(candidates) for actor in each[4]]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    values = np.ones(len(table), np.float32)
    return Proposals(
        users.astype(np.int64),
        items.astype(np.int64),
        scores.astype(np.float32),
        sources.astype(np.int64),
        sparse(values, table[:, 0], table[:, 1], (len(candidates), len(ACTORS))),
        NAMES,
        np.ones((3, 2), np.bool_),
    )
