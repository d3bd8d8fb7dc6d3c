"""The known world's training log, made as the ranker makes its own, and the truth beside it.

Features come from entries of the feed as they stood at each decision, labels and logging rates
from the ranker's rules.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.progress import track

from services.policy.segments import ActiveDays
from services.ranker.features import (
    HEADS,
    Channel,
    EngagementKind,
    EventFacts,
    Features,
    Head,
    ItemTable,
    apply,
    concatenate,
    item_key,
    user_features,
)
from services.ranker.features.items import HISTORY
from services.ranker.labels import (
    Decided,
    Outcome,
    SessionTime,
    is_exported,
    labels,
    log_probability,
)
from services.ranker.training.log import Examples, LogWriter
from simulation.known_world.feed import Feed
from simulation.known_world.making import WorldOptions
from simulation.known_world.offers import SOURCES
from simulation.known_world.parameters import WORLDS, parameters_hash
from simulation.known_world.people import START
from simulation.known_world.play import NOTHING
from simulation.known_world.record import Record
from simulation.movielens import MovieLens
from simulation.populate import EVENT_TYPE
from simulation.snapshots import Profile, item_table, off_kind, open_kind, sent_features
from simulation.world import DAY_S

UNSENT_HEADS = (Head.APP_DELETE, Head.SESSION_1H, Head.SESSION_1D, Head.SESSION_3D)
"""Heads whose truth is also given for the case that nothing had been sent."""
LONGEST_WINDOW_S = int(max(head.window for head in HEADS).total_seconds())


class HistoryError(Exception):
    """A file that doesn't hold items' history."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a world is written to, and the history of its items that it begins with."""

    log: Path
    truth: Path
    history_before: Path | None = None
    """The `history_after` of a world that went before, with other users; None: its items were never
    sent."""
    history_after: Path | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labels of all logged decisions, and which of them the sampling keeps."""

    row: NDArray[np.int64]
    """Positions in the record's decisions."""
    labels: NDArray[np.int8]
    """[n, heads]"""
    log_probability: NDArray[np.float32]
    kept: NDArray[np.bool_]


def label(record: Record, options: WorldOptions, *, everything: bool = False) -> Labelled:
    """The ranker's labels of the logged decisions; every window has closed.

    `everything`: all decisions are kept, each with probability 1.
    """
    decided = list(_decided(record, options))
    row = np.flatnonzero(record.decisions.logged)
    until = int(record.decisions.time.max()) + LONGEST_WINDOW_S
    found = np.stack([labels(each, until) for each in decided])
    if everything:
        ones = np.ones(len(row), np.float32)
        return Labelled(row, found, ones, np.ones(len(row), np.bool_))
    shares = np.array([log_probability(each) for each in decided], np.float32)
    return Labelled(row, found, shares, np.array([is_exported(each) for each in decided]))


def write(
    data: MovieLens,
    options: WorldOptions,
    record: Record,
    labelled: Labelled,
    files: Files,
    *,
    show: bool,
) -> int:
    """Write the log and the truth of the decisions that are kept; how many. Both name the world,
    the hash of its parameters, and the seed in their metadata.

    Raises HistoryError for a file of items' history that can't be read.
    """
    notes = {
        "heliograph_world": options.world,
        "heliograph_world_parameters": parameters_hash(WORLDS[options.world]),
        "heliograph_world_seed": str(options.seed),
    }
    made, kept = record.decisions, np.flatnonzero(labelled.kept)
    row = labelled.row[kept]
    kept = kept[np.lexsort((made.user[row], made.time[row]))]
    row = labelled.row[kept]
    maker = _Maker(data, options, record)
    if files.history_before:
        maker.begin_with(files.history_before)
    with LogWriter(files.log, maker.items) as log:
        log.note(notes)
        for chosen in track(_by(made.time[row] // DAY_S, kept), "Writing", disable=not show):
            log.write(maker.examples(labelled, chosen))
    _write_truth(record, row, maker.decision_ids, notes, files.truth)
    if files.history_after:
        maker.write_history(files.history_after)
    return len(kept)


def _decided(record: Record, options: WorldOptions) -> Iterator[Decided]:
    made = record.decisions
    names, ids = options.user_names, made.decision_ids(options.user_names)
    moments = [SessionTime(time) for time in record.session_time.tolist()]
    sessions = _in_line(record.session_user, record.session_time)
    first = np.searchsorted(sessions, _in_line(made.user, made.time)).tolist()
    last = np.searchsorted(sessions, _in_line(made.user, made.time + LONGEST_WINDOW_S)).tolist()
    for row in np.flatnonzero(made.logged).tolist():
        user, channel = int(made.user[row]), Channel(int(made.channel[row]))
        followed = moments[first[row] : last[row]]
        gone = int(record.deleted[user])
        if gone != NOTHING:
            followed = [*followed, SessionTime(gone, app_deleted=True)]
        yield Decided(
            decision_id=ids[row],
            user_id=names[user],
            time=int(made.time[row]),
            channel=channel,
            outcomes=_outcomes(record, row, channel),
            sessions=followed,
        )


def _in_line(user: NDArray[np.int64], time: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers that order by user, then time (which needs 33 bits)."""
    line: NDArray[np.int64] = (user << 33) + time
    return line


def _outcomes(record: Record, row: int, channel: Channel) -> list[Outcome]:
    made = record.decisions
    happened = (
        (made.opened[row], open_kind(channel)),
        (made.dismissed[row], EngagementKind.DISMISS),
        (made.off[row], off_kind(channel)),
    )
    return [Outcome(kind, int(made.answer_time[row])) for did, kind in happened if did]


class _Maker:
    """Makes examples in order of time, with features as the ranker would have had them."""

    def __init__(self, data: MovieLens, options: WorldOptions, record: Record) -> None:
        self.items = item_table(data)
        self._item_ids = [item.item_id for item in data.items]
        self._record = record
        self._names = options.user_names
        self.decision_ids = record.decisions.decision_ids(self._names)
        self._feed = Feed(record, self.decision_ids, self._item_ids)
        self._history = _ItemHistory(record, self._item_ids)
        first = (START - timedelta(days=WORLDS[options.world].warm_up_days)).date()
        self._profiles = [
            Profile(zone, datetime.fromtimestamp(joined, UTC), ActiveDays(first))
            for zone, joined in zip(record.time_zone, record.joined.tolist(), strict=True)
        ]

    def begin_with(self, path: Path) -> None:
        """Add the history of items that another world left. Raises HistoryError."""
        try:
            table = pq.read_table(path, columns=["item_id", *HISTORY])
            rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        except (pa.ArrowException, OSError) as error:
            raise HistoryError(f"{path}: no history of items ({error})") from error
        for item_id, *added in rows:
            self.items.add_history(item_id, added)

    def write_history(self, path: Path) -> None:
        """The history of all items when everything has happened, also in the days after the log
        in which windows close."""
        self._history.count(self.items, int(np.iinfo(np.int64).max))
        keys = np.array([item_key(item_id) for item_id in self._item_ids], np.int64)
        columns = dict(zip(HISTORY, self.items.history(keys).T, strict=True))
        pq.write_table(pa.table({"item_id": self._item_ids, **columns}), path)

    def examples(self, labelled: Labelled, chosen: NDArray[np.int64]) -> Examples:
        """Examples of these rows of `labelled`, which must be later than all before."""
        made, row = self._record.decisions, labelled.row[chosen]
        parts = [self._features(int(made.time[same[0]]), same) for same in _by(made.time[row], row)]
        return Examples(
            decision_id=[self.decision_ids[each] for each in row.tolist()],
            user_id=[self._names[user] for user in made.user[row].tolist()],
            time=made.time[row],
            channel=made.channel[row].astype(np.int8),
            log_probability=labelled.log_probability[chosen],
            labels=labelled.labels[chosen],
            users=concatenate([users for users, _ in parts]),
            events=concatenate([events for _, events in parts]),
        )

    def _features(self, moment: int, rows: NDArray[np.int64]) -> tuple[Features, Features]:
        """Features of users and events of decisions at one moment."""
        self._history.count(self.items, moment)
        users = self._record.decisions.user[rows].tolist()
        profiles = [self._informed(user, moment) for user in users]
        now = datetime.fromtimestamp(moment, UTC)
        known = user_features(
            [profile.features for profile in profiles],
            [profile.signals(now) for profile in profiles],
            moment,
            self.items,
        )
        return known, sent_features([self._event(row) for row in rows.tolist()], moment, self.items)

    def _informed(self, user: int, moment: int) -> Profile:
        """The user's profile with all that happened before a moment."""
        profile, news = self._profiles[user], self._feed.news(user, moment)
        profile.features = apply(profile.features, news.entries)
        for active in news.active:
            profile.notice(active)
        return profile

    def _event(self, row: int) -> EventFacts | None:
        made = self._record.decisions
        if not made.channel[row]:
            return None
        return EventFacts(
            event_type=EVENT_TYPE,
            item_ids=[self._item_ids[int(made.item[row])]],
            source=SOURCES[int(made.source[row])],
            source_score=float(made.score[row]),
            create_time=int(made.create_time[row]),
        )


class _ItemHistory:
    """Sends and opens of items in order of time, counted as far as they have happened."""

    def __init__(self, record: Record, item_ids: Sequence[str]) -> None:
        made = record.decisions
        sent, opened = np.flatnonzero(made.channel), np.flatnonzero(made.opened)
        time = np.concatenate((made.time[sent], made.answer_time[opened]))
        item = np.concatenate((made.item[sent], made.item[opened]))
        order = np.argsort(time, kind="stable")
        self._time = time[order]
        self._item = [item_ids[each] for each in item[order].tolist()]
        self._is_open = (order >= len(sent)).tolist()
        scores = np.concatenate((made.score[sent], np.zeros(len(opened))))
        self._score = scores[order].tolist()
        self._next = 0

    def count(self, items: ItemTable, before: int) -> None:
        """Add to the table what happened before a moment."""
        end = int(np.searchsorted(self._time, before))
        for at in range(self._next, end):
            opens = int(self._is_open[at])
            score = self._score[at]
            items.count(self._item[at], sends=1 - opens, opens=opens, source_score=score)
        self._next = end


def _by(key: NDArray[np.int64], rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows with the same key, which must be in order."""
    return np.split(rows, np.flatnonzero(np.diff(key)) + 1)


def _write_truth(
    record: Record,
    row: NDArray[np.int64],
    decision_ids: Sequence[str],
    notes: Mapping[str, str],
    path: Path,
) -> None:
    """One column per head, and per head of UNSENT_HEADS another; null where there is no truth."""
    made = record.decisions
    columns: dict[str, Any] = {
        "decision_id": pa.array([decision_ids[each] for each in row.tolist()], pa.string()),
        "propensity": pa.array(made.propensity[row], pa.float64()),
    }
    for head in HEADS:
        columns[head.name.lower()] = _nullable(made.truth[row, HEADS.index(head)])
    for head in UNSENT_HEADS:
        columns[f"{head.name.lower()}_unsent"] = _nullable(made.unsent[row, HEADS.index(head)])
    table = pa.table(columns).replace_schema_metadata(dict(notes))
    pq.write_table(table, path, compression="zstd")


def _nullable(values: NDArray[np.float64]) -> Any:
    return pa.array(values, pa.float64(), from_pandas=True)
