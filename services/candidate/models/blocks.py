"""Queries in blocks, so that a table of scores is no larger than a bound."""

from collections.abc import Iterator

from services.candidate.sources.arrays import Rows

MOST_QUERIES = 256
MOST_CELLS = 16_000_000
"""Of queries × candidates: 64 MB in float32; one query is always taken."""


def blocks(rows: Rows, candidates: int) -> Iterator[tuple[int, Rows]]:
    """The place of the first, and the rows, of each block."""
    size = min(MOST_QUERIES, max(MOST_CELLS // max(candidates, 1), 1))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]
