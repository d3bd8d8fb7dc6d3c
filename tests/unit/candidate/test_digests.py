"""Digests: when they are ready, what they take in, how many actors stand in them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.aggregation import MergePlan, Waiting, merge, plan_merges
from services.candidate.digests import DigestRules, next_hour, ready_time, zone_of
from services.candidate.events import Event, Route, TypeRules

NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ZONES = ["UTC", "Europe/Prague", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
LIFE = timedelta(days=3)


def rules(window: timedelta = MINUTE, **digest: object) -> TypeRules:
    given = DigestRules(**digest) if digest else None  # type: ignore[arg-type]
    return TypeRules("like", Route.RANKED, LIFE, window, given)


def like(name: str, *actors: str, life: timedelta = LIFE) -> Event:
    return Event("u", name, "like", NOW, NOW + life, aggregation_key="k", actor_ids=actors)


def plan(kind: TypeRules, *names: str, waiting: Waiting | None = None) -> MergePlan:
    kept = {("u", "like", "k"): waiting} if waiting else {}
    return plan_merges([(like(name), kind) for name in names], kept, {"u": ZoneInfo("UTC")}, NOW)


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)),
    st.integers(0, 23),
    st.sampled_from(ZONES).map(ZoneInfo),
)
def test_the_hour_is_the_next_one_on_the_users_clock(
    moment: datetime, hour: int, zone: ZoneInfo
) -> None:
    now = moment.replace(tzinfo=UTC)
    ready = next_hour(now, hour, zone)
    assert now < ready <= now + timedelta(hours=25)
    local = ready.astimezone(zone)
    is_gap = local.replace(tzinfo=None) != datetime(local.year, local.month, local.day, hour)
    skipped = ready.astimezone(zone).utcoffset() != (ready - 2 * HOUR).astimezone(zone).utcoffset()
    assert not is_gap or skipped  # an hour that a change of the clocks leaves out


def test_an_hour_that_the_clocks_skip_is_when_they_do() -> None:
    before = datetime(
        2026, 3, 29, 0, 30, tzinfo=UTC
    )  # Prague goes from 02:00 to 03:00 at 01:00 UTC
    assert next_hour(before, 2, ZoneInfo("Europe/Prague")) == before + 30 * MINUTE


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "a\0b"])
def test_what_is_no_zone_is_utc(name: str) -> None:
    assert zone_of(name) == ZoneInfo("UTC")


def test_a_digest_is_ready_at_the_earliest_of_its_times() -> None:
    utc = ZoneInfo("UTC")
    assert ready_time(DigestRules(hour=18), NOW, utc) == NOW.replace(hour=18, minute=0)
    both = DigestRules(hour=18, maximum_wait=HOUR)
    assert ready_time(both, NOW, utc) == NOW + HOUR


def test_a_digest_waits_and_takes_in_beyond_the_window() -> None:
    kind = rules(maximum_wait=HOUR)
    assert plan(kind, "a", "b").ready_times == {("u", "a"): NOW + HOUR}
    held = Waiting(like("old"), NOW - 30 * MINUTE, NOW + 30 * MINUTE)
    assert plan(kind, "b", waiting=held).merged_into == {("u", "b"): "old"}
    ready = Waiting(like("old"), NOW - 60 * MINUTE, NOW)
    assert plan(kind, "b", waiting=ready).ready_times == {("u", "b"): NOW + HOUR}


def test_what_expires_first_is_not_held() -> None:
    assert plan(rules(maximum_wait=LIFE), "a").ready_times == {}


@pytest.mark.parametrize("stored", [True, False])
def test_enough_events_make_it_ready(stored: bool) -> None:
    kind = rules(maximum_wait=HOUR, minimum_count=3)
    waiting = Waiting(like("a"), NOW - MINUTE, NOW + HOUR) if stored else None
    names = ("b", "c", "d") if stored else ("a", "b", "c", "d")
    assert plan(kind, *names[:-2], waiting=waiting).ready_times != {("u", "a"): NOW}
    assert plan(kind, *names, waiting=waiting).ready_times == {("u", "a"): NOW}


@given(st.lists(st.lists(st.integers(0, 400).map(str), max_size=32), min_size=1, max_size=40))
def test_the_count_of_actors_is_exact_below_256_and_the_latest_are_kept(
    events: list[list[str]],
) -> None:
    merged = like("first", *dict.fromkeys(events[0]))
    for number, actors in enumerate(events[1:]):
        merged = merge(merged, like(f"{number}", *dict.fromkeys(actors)))
    everyone = {actor for actors in events for actor in actors}
    assert len(merged.actor_ids) == min(len(everyone), 32)
    if len(everyone) < 256:
        assert merged.actor_count == len(everyone)
    else:
        assert 0.7 * len(everyone) <= merged.actor_count <= 1.4 * len(everyone)
