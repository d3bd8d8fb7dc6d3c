"""Vectors of items in Postgres: made in the background whenever an item's content changes."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from heliograph.type.v1alpha1 import event_pb2
from sqlalchemy import Row

from services.candidate import literals
from services.candidate.cursors import Position
from services.candidate.text.encoder import DIMENSIONS, Floats
from services.candidate.text.weights import MODEL, TextModelError
from services.runtime import metrics
from services.runtime.database import Database, UnitOfWork, load_queries
from services.runtime.logs import Logger

QUERIES = load_queries(Path(__file__).with_name("vector_queries.sql"))
AT_A_TIME = 64
"""Items of one transaction: what a killed process has to do again."""
STORED = np.dtype("<f2")


class Encoder(Protocol):
    """What makes vectors of texts."""

    def embed(self, texts: Sequence[str]) -> Floats:
        """Vectors [n, 384]; blocks."""


class ItemVectors:
    """Keeps a vector for each item that isn't deleted, a bounded number of items in one run.

    Of several processes one at a time works; each goes on where the table says that work is left,
    so nothing is lost or done again when one is killed. Where the model can't be opened no vectors
    are made: the first run, and each with another reason, says so in the log, and the next run
    tries again.
    """

    def __init__(
        self, database: Database, open_encoder: Callable[[], Encoder], most: int, log: Logger
    ) -> None:
        """`open_encoder`: blocks; raises TextModelError. `most`: items of one run, rounded up to
        whole transactions."""
        self._database = database
        self._open_encoder = open_encoder
        self._most = most
        self._log = log
        self._encoder: Encoder | None = None
        self._reason = ""
        self._position = Position()
        self._ready = metrics.gauge(
            "candidate", "text_model_ready", "", "1: items get vectors of their text; 0: no model."
        )
        self._made = metrics.counter(
            "candidate", "item_vectors", "", "Vectors made of items' texts."
        )

    async def embed(self, item: event_pb2.Item) -> Floats | None:
        """The vector [384] of an item that isn't stored; None without a model."""
        encoder = await self._opened()
        if encoder is None:
            return None
        vector: Floats = (await asyncio.to_thread(encoder.embed, [item_text(item)]))[0]
        return vector

    async def run(self) -> None:
        """Make vectors of items that changed, in a thread."""
        encoder = await self._opened()
        if encoder is None:
            return
        for _ in range(0, self._most, AT_A_TIME):
            made = await self._next(encoder)
            self._made.inc(made)
            if made < AT_A_TIME:
                return

    async def _opened(self) -> Encoder | None:
        if self._encoder is None:
            try:
                self._encoder = await asyncio.to_thread(self._open_encoder)
            except TextModelError as error:
                if str(error) != self._reason:
                    self._reason = str(error)
                    self._log.warning("no_text_model", reason=self._reason)
        self._ready.set(self._encoder is not None)
        return self._encoder

    async def _next(self, encoder: Encoder) -> int:
        """Make the next vectors; returns how many there were to make."""
        async with self._database.unit_of_work() as work:
            (turn,) = await work.rows(QUERIES.take_turn)
            if not turn.mine:
                return 0
            rows = await work.rows(QUERIES.items_without_vector, self._page())
            if rows:
                vectors = await asyncio.to_thread(_embed, encoder, rows)
                await _put(work, rows, vectors)
            await work.commit()
        # Never beyond a transaction that still runs: its items will be found behind it.
        self._position = Position(int(turn.horizon))
        if len(rows) == AT_A_TIME:
            self._position = min(self._position, Position(int(rows[-1].xid), rows[-1].seq))
        return len(rows)

    def _page(self) -> dict[str, object]:
        position = self._position
        return {
            "model": MODEL,
            "xid": str(position.xid),
            "seq": position.seq,
            "count": AT_A_TIME,
        }


def item_text(item: event_pb2.Item) -> str:
    """What an item's vector is made of: its title and its text; just the text if that begins with
    the title."""
    if item.text.startswith(item.title):
        return item.text
    return f"{item.title}\n{item.text}"


def _embed(encoder: Encoder, rows: Sequence[Row[tuple[object, ...]]]) -> Floats:
    return encoder.embed([item_text(event_pb2.Item.FromString(row.body)) for row in rows])


async def _put(work: UnitOfWork, rows: Sequence[Row[tuple[object, ...]]], vectors: Floats) -> None:
    params = {
        "model": MODEL,
        "item_ids": literals.texts(row.item_id for row in rows),
        "versions": literals.numbers(row.content_version for row in rows),
        "vectors": literals.binaries(vector.tobytes() for vector in vectors.astype(STORED)),
    }
    await work.execute(QUERIES.put_vectors, params)


async def changed_vectors(
    work: UnitOfWork, snapshot: str
) -> tuple[list[str], npt.NDArray[np.float16]]:
    """Items whose vectors a snapshot did not see, and the vectors [n, 384]."""
    params = {"model": MODEL, "snapshot": snapshot}
    rows = await work.rows(QUERIES.changed_vectors, params)
    flat = np.frombuffer(b"".join(row.vector for row in rows), STORED)
    return [row.item_id for row in rows], flat.reshape(-1, DIMENSIONS).astype(np.float16)
