"""Feed entries for property tests."""

from hypothesis import strategies as st

from services.ranker.features import (
    Channel,
    Decision,
    Engagement,
    EngagementKind,
    Entry,
    Send,
    Session,
)

START = 1_767_225_600
times = st.integers(START, START + 40 * 86400)
ids = st.integers(0, 400).map(str)
items = st.lists(st.sampled_from(["i1", "i2", "i3"]), max_size=2).map(tuple)
channels = st.sampled_from([Channel.PUSH, Channel.EMAIL, Channel.IN_APP])
types = st.sampled_from(["movie.suggestion", "comment.reply"])

decisions = st.builds(Decision, times, ids, st.booleans())
sends = st.builds(Send, times, ids, channels, types, items)
engagements = st.builds(
    Engagement, times, ids, st.sampled_from(EngagementKind), channels, types, items, times
)
sessions = st.builds(Session, times, ids, st.booleans())


def _distinct(entries: list[Entry]) -> list[Entry]:
    """One entry for each kind and id, as the feed has it."""
    return list({(type(entry), _id(entry)): entry for entry in entries}.values())


def _id(entry: Entry) -> str:
    match entry:
        case Decision():
            return entry.decision_id
        case Send():
            return entry.delivery_id
        case Engagement():
            return entry.engagement_id
        case Session():
            return entry.session_id


histories = st.lists(decisions | sends | engagements | sessions, max_size=120).map(_distinct)
