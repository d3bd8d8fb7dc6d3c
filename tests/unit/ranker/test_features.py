"""Features of users, items and events."""

from datetime import UTC, datetime

import numpy as np
import pytest

from services.ranker.features import (
    EVENT_FEATURES,
    STEPS,
    USER_FEATURES,
    Channel,
    Embedding,
    Engagement,
    EngagementKind,
    EventFacts,
    FeatureState,
    ItemTable,
    Send,
    UserSignals,
    apply,
    content_ref,
    content_vector,
    event_features,
    item_key,
    model_inputs,
    seconds,
    user_features,
)
from services.ranker.features.users import hour_of_week

NOW = seconds(datetime(2026, 1, 5, 9, 30, tzinfo=UTC))  # a Monday


def table() -> ItemTable:
    items = ItemTable()
    items.put("m1", 1, content_vector("movie", {"genres": ["Animation"]}))
    items.put("m2", 3, content_vector("movie", {"genres": ["Crime"]}))
    return items


def some_state() -> FeatureState:
    about = (Channel.PUSH, "movie.suggestion", ("m1",))
    return apply(
        FeatureState(),
        [
            Send(NOW - 7200, "d1", *about),
            Engagement(NOW - 3600, "e1", EngagementKind.OPEN, *about, decide_time=NOW - 7300),
        ],
    )


def test_arrays_are_those_of_the_schema() -> None:
    users = user_features([some_state(), FeatureState()], [UserSignals()] * 2, NOW, table())
    events = event_features([EventFacts("a", ("m2",))] * 3, NOW, table())
    for specs, features, rows in ((USER_FEATURES, users, 2), (EVENT_FEATURES, events, 3)):
        assert [spec.name for spec in specs] == list(features)
        for spec in specs:
            assert features[spec.name].shape == (rows, *spec.shape), spec.name
            assert features[spec.name].dtype == spec.dtype, spec.name


def test_sequence_holds_what_happened() -> None:
    users = user_features([some_state()], [UserSignals()], NOW, table())
    assert users["engagement_kinds"][0, :2].tolist() == [3, 0]
    assert users["engagement_ages"][0, 0] == 3600
    assert users["engagement_delays"][0, 0] == 3700
    assert users["engagement_items"][0, 0] == content_ref("m1", 1)
    assert users["send_items"][0, 0] == content_ref("m1", 1)


@pytest.mark.parametrize(
    ("time_zone", "expected"),
    [("", 9), ("UTC", 9), ("America/New_York", 4), ("Pacific/Auckland", 22), ("No/Where", 9)],
)
def test_hour_of_week_is_local(time_zone: str, expected: int) -> None:
    assert hour_of_week(NOW, time_zone) == expected


def test_hour_profile_is_relative_to_an_even_spread() -> None:
    profile = [0.0] * 168
    profile[9] = 0.25
    profile[33] = 0.75
    numbers = user_features([FeatureState()], [UserSignals(hour_profile=profile)], NOW, table())[
        "hour_profile"
    ][0]
    assert numbers.tolist() == [1.0, 8.0, 8.0, 1.75]  # the first two are cut
    unknown = user_features([FeatureState()], [UserSignals()], NOW, table())["hour_profile"][0]
    assert unknown.tolist() == [0.0] * 4


def test_content_is_deterministic_and_near_for_like_items() -> None:
    first = content_vector("movie", {"genres": ["Animation", "Comedy"]})
    again = content_vector("movie", {"genres": ["comedy", "animation"]})
    like = content_vector("movie", {"genres": ["Animation", "Adventure"]})
    unlike = content_vector("movie", {"genres": ["Crime"]})
    np.testing.assert_array_equal(first, again)
    assert np.linalg.norm(first) == pytest.approx(1.0)
    assert float(first @ like) > float(first @ unlike)
    assert not content_vector().any()


def test_text_keeps_its_cosines_beside_the_attributes() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(200, 384))
    vectors[100:] += vectors[:100] * random.uniform(0, 3, (100, 1))  # pairs, from unlike to alike
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    half = vectors.astype(np.float16)
    attributes = {"genres": ["Crime"]}
    contents = np.array([content_vector("", attributes, Embedding("m", row)) for row in half])
    bare = content_vector("", attributes)
    np.testing.assert_array_equal(contents[:, :64], np.tile(bare[:64], (200, 1)))
    assert not bare[64:].any()
    texts = contents[:, 64:]
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)
    wrong = (texts[:100] * texts[100:]).sum(1) - (vectors[:100] * vectors[100:]).sum(1)
    assert 0.05 < np.sqrt((wrong**2).mean()) < 0.125
    assert not content_vector("", {}, Embedding("m", np.zeros(384))).any()


def test_content_with_another_embedding_is_another_content() -> None:
    embeddings = [None, Embedding("m", np.ones(8)), Embedding("n", np.ones(8))]
    refs = {content_ref("i", version, each) for version in (1, 2) for each in embeddings}
    assert len(refs) == 6
    items = ItemTable()
    items.put("i", 1, content_vector("movie"))
    items.put("i", 1, content_vector("movie", {}, embeddings[1]), embeddings[1])
    refs_now = items.refs(np.array([item_key("i")]))
    assert refs_now.tolist() == [content_ref("i", 1, embeddings[1])]
    assert items.vectors(refs_now)[0, 64:].any()


def test_an_event_is_about_its_first_items() -> None:
    items = table()
    facts = [EventFacts("a", ("m2", "ghost", "m1", "m1", "m2")), EventFacts("a", ("m1",))]
    events = event_features(facts, NOW, items)
    m1, m2 = content_ref("m1", 1), content_ref("m2", 3)
    assert events["event_items"].tolist() == [[m2, 0, m1, m1], [m1, 0, 0, 0]]
    assert events["event_numbers"][:, 2].tolist() == [5 / 32, 1 / 32]


def test_item_history_and_unknown_items() -> None:
    items = table()
    for item in ("m1", "m1", "ghost"):
        items.count(item, sends=2)
    items.count("m1", opens=1)
    facts = [EventFacts("a", ("m1",)), EventFacts("a", ("ghost",)), EventFacts("a")]
    events = event_features(facts, NOW, items)
    assert events["event_numbers"][:, 3] == pytest.approx(np.log1p([4, 2, 0]))
    assert events["event_numbers"][:, 4] == pytest.approx([2 / 24, 1 / 22, 1 / 20])
    assert events["event_items"][:, 0].tolist() == [content_ref("m1", 1), 0, 0]
    assert not events["event_items"][:, 1:].any()


def test_an_item_is_known_by_the_scores_its_sources_gave() -> None:
    items = table()
    assert items.history(np.array([item_key("m1")])).tolist() == [[0, 0, 0, 0]]
    for score in (0.02, 0.2, 0.0, 1.0):
        items.count("m1", sends=1, source_score=score)
    events = event_features([EventFacts("a", ("m1",)), EventFacts("a", ("m2",))], NOW, items)
    logs = np.log1p(1e4 * np.array([0.02, 0.2, 1.0])) / np.log1p(1e4)
    assert events["event_numbers"][:, 5] == pytest.approx(np.log1p([3, 0]))
    assert events["event_numbers"][:, 6] == pytest.approx([(logs.sum() + 0.5) / 4, 0.5])


def test_table_grows_and_forgets_replaced_content() -> None:
    items = ItemTable()
    for number in range(100):
        items.put(f"i{number}", 1, np.full(128, number, np.float32))
    items.put("i7", 2, np.full(128, -1, np.float32))
    refs = items.refs(np.array([item_key("i7"), item_key("i99")]))
    assert refs.tolist() == [content_ref("i7", 2), content_ref("i99", 1)]
    assert items.vectors(refs)[:, 0].tolist() == [-1.0, 99.0]
    assert not items.vectors(np.array([content_ref("i7", 1)])).any()


def test_inputs_point_into_the_items() -> None:
    items = table()
    users = user_features([FeatureState(), some_state()], [UserSignals()] * 2, NOW, items)
    events = event_features([EventFacts("a", ("m2",)), EventFacts("a")], NOW, items)
    inputs = model_inputs(users, events, np.array([1, 0]), items)
    refs = items.refs(np.array([item_key("m1"), item_key("m2")]))
    expected = items.vectors(refs)
    np.testing.assert_array_equal(inputs["items"][inputs["send_items"][1, 0]], expected[0])
    np.testing.assert_array_equal(inputs["items"][inputs["event_items"][0, 0]], expected[1])
    assert not inputs["event_items"][1].any()
    assert not inputs["items"][0].any()
    assert inputs["send_kinds"].shape == (2, 1)
    assert users["send_kinds"].shape == (2, STEPS)
