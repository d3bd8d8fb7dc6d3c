"""Cutting work into calls that the protos' limits allow."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def cut(
    items: Iterable[Item],
    sizes: Iterable[Sequence[int]],
    limits: Sequence[int],
    most: int,
) -> Iterator[list[Item]]:
    """Consecutive parts of at most `most` items, in order, none empty and none left out.

    `sizes` gives each item's size in every measure (events, bytes); a part's sum stays within
    `limits` in each. An item that is over a limit by itself is a part of its own.
    """
    part: list[Item] = []
    sums = [0] * len(limits)
    for item, size in zip(items, sizes, strict=True):
        grown = [total + more for total, more in zip(sums, size, strict=True)]
        over = any(total > limit for total, limit in zip(grown, limits, strict=True))
        if part and (over or len(part) == most):
            yield part
            part, grown = [], list(size)
        part.append(item)
        sums = grown
    if part:
        yield part


class BatchSize:
    """How many are asked for at once: halved when an answer was too large, then grown again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.now = most

    def shrink(self) -> bool:
        """Ask for half as many from now on; False when it is one already."""
        smaller = max(1, self.now // 2)
        shrunk = smaller < self.now
        self.now = smaller
        return shrunk

    def grow(self) -> None:
        """An answer came through: ask for a tenth more, up to the setting."""
        self.now = min(self._most, self.now + max(1, self._most // 10))
