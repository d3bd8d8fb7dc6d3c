"""Admission, aggregation, ids, cursors and settings."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.candidate.admission import Admission
from services.candidate.aggregation import Waiting, merge, plan_merges
from services.candidate.cursors import Position, read_cursor
from services.candidate.events import Draft, Event, Refusal, Route, TypeRules, event_id_of
from services.candidate.messages import decode_event, encode_event
from services.candidate.orders import shard_of
from services.candidate.settings import CandidateSettings
from services.runtime.errors import InvalidArgument

NOW = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
NEWS = TypeRules("news", Route.RANKED, timedelta(days=3), None)
LIKES = TypeRules("like", Route.RANKED, timedelta(days=3), HOUR)


def admitted(rules: TypeRules = NEWS, **fields: object) -> Event | Refusal:
    draft = Draft("u", "e", rules.name, b"", **fields)  # type: ignore[arg-type]
    return Admission({rules.name: rules}, NOW, tolerance=timedelta(minutes=5)).admit([draft])[0]


def test_defaults_are_filled_in() -> None:
    event = admitted(deliver_time=NOW + HOUR)
    assert isinstance(event, Event)
    assert (event.create_time, event.expire_time) == (NOW, NOW + timedelta(days=3))
    assert event.source == "publish"
    assert event.deliver_time is None  # only scheduled types have one


def test_time_to_live_counts_from_creation() -> None:
    event = admitted(create_time=NOW - HOUR)
    assert isinstance(event, Event)
    assert event.expire_time == NOW - HOUR + timedelta(days=3)


@pytest.mark.parametrize(
    ("fields", "reason", "path"),
    [
        ({"create_time": NOW - timedelta(days=3)}, "EXPIRED", "expire_time"),
        ({"expire_time": NOW, "create_time": NOW - HOUR}, "EXPIRED", "expire_time"),
        ({"expire_time": NOW}, "INVALID_FIELD", "expire_time"),
        ({"create_time": NOW + HOUR}, "INVALID_FIELD", "create_time"),
        ({"create_time": datetime.max.replace(tzinfo=UTC)}, "INVALID_FIELD", "create_time"),
        ({"expire_time": NOW + timedelta(days=91)}, "INVALID_FIELD", "expire_time"),
    ],
)
def test_wrong_times_are_refused(fields: dict[str, object], reason: str, path: str) -> None:
    refusal = admitted(**fields)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.path) == (reason, path)


def test_a_deliver_time_after_expiry_is_refused_for_scheduled_types() -> None:
    rules = TypeRules("later", Route.SCHEDULED, HOUR, None)
    refusal = admitted(rules, deliver_time=NOW + HOUR)
    assert isinstance(refusal, Refusal)
    assert refusal.path == "deliver_time"


def like(name: str, **fields: object) -> Event:
    return Event("u", name, "like", NOW, NOW + HOUR, aggregation_key="k", **fields)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["k", "l", ""]), max_size=20), st.booleans())
def test_merging_loses_no_event(keys: list[str], waits: bool) -> None:
    newcomers = [
        Event("u", f"e{n}", "like", NOW, NOW + HOUR, aggregation_key=key)
        for n, key in enumerate(keys)
    ]
    waiting = {("u", "like", "k"): Waiting(like("old"), NOW - HOUR)} if waits else {}
    plan = plan_merges([(event, LIKES) for event in newcomers], waiting, {}, NOW)
    standing = {event.event_id: event for event in newcomers}
    if waits:
        standing["old"] = like("old")
    standing |= {event.event_id: event for event in plan.grown.values()}
    for _, name in plan.merged_into:
        del standing[name]
    assert sum(event.merged_count for event in standing.values()) == len(newcomers) + waits
    assert set(plan.merged_into.values()) <= set(standing)


def test_nothing_is_merged_beyond_the_window() -> None:
    old = {("u", "like", "k"): Waiting(like("old"), NOW - HOUR - timedelta(seconds=1))}
    assert plan_merges([(like("new"), LIKES)], old, {}, NOW).merged_into == {}


def test_a_merge_keeps_what_both_bring() -> None:
    kept = like("a", item_ids=("x", "y"), actor_ids=("1",), payload={"n": "1"}, source_score=0.9)
    newer = like("b", item_ids=("z", "x"), actor_ids=("2", "1"), payload={"n": "2"})
    merged = merge(kept, newer)
    assert merged.event_id == "a"
    assert merged.item_ids == ("z", "x", "y")
    assert merged.actor_ids == ("1", "2")
    assert merged.payload == {"n": "2"}
    assert merged.source_score == 0.9
    assert merged.merged_count == 2


def test_stored_events_come_back_whole() -> None:
    event = like("a", item_ids=("x",), payload={"a": "ü\0"}, deliver_time=NOW, actor_ids=("1",))
    assert decode_event(encode_event(event)) == event


def test_event_ids_stay_within_their_limit() -> None:
    assert event_id_of("daily:2026-01-05", "50") == "daily:2026-01-05:50"
    one, other = event_id_of("p", "x" * 128), event_id_of("p", "x" * 127 + "y")
    assert len(one) <= 128
    assert one != other


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1))
def test_cursors_come_back(xid: int, seq: int) -> None:
    assert read_cursor(str(Position(xid, seq))) == Position(xid, seq)


@pytest.mark.parametrize("cursor", ["1", "1:", ":1", "1:2:3", "-1:2", "1:²", f"{2**64}:0"])
def test_wrong_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(InvalidArgument):
        read_cursor(cursor)


@given(st.text(), st.integers(1, 50))
def test_every_user_has_one_shard(user: str, count: int) -> None:
    assert 0 <= shard_of(user, count) < count


def test_settings_refuse_a_horizon_beyond_the_retention() -> None:
    with pytest.raises(ValidationError, match="HELIOGRAPH_CANDIDATE_RETENTION"):
        CandidateSettings(repeat_horizon=timedelta(days=100))
