"""Judging the items of a batch one by one, and counting over a stream."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from google.protobuf.message import Message
from heliograph.type.v1alpha1 import status_pb2

from services.candidate.events import Refusal
from services.candidate.messages import Refused
from services.runtime.errors import FieldError
from services.runtime.screening import Columns, all_valid
from services.runtime.validation import ItemRules, rejection

MOST_REJECTIONS = 1000

Offered = TypeVar("Offered", bound=Message)
Value = TypeVar("Value")


@dataclass(slots=True)
class Batch(Generic[Value]):
    """The well-formed items of a batch with their positions, and the rejections of the others."""

    size: int
    values: list[Value] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    rejections: list[status_pb2.Rejection] = field(default_factory=list)

    def refuse(self, refusals: Mapping[int, Refusal]) -> None:
        """Reject well-formed items as well, by position among `values`."""
        for place, refusal in refusals.items():
            self.rejections.append(refused(self.places[place], refusal))
        self.rejections.sort(key=lambda entry: entry.index)

    @property
    def accepted(self) -> int:
        """How many were not rejected."""
        return self.size - len(self.rejections)


def judge(
    offered: Sequence[Offered], read: Callable[[Offered], Value], offset: int = 0
) -> Batch[Value]:
    """Check each item by the proto's rules and `read` it; positions count from `offset`."""
    batch: Batch[Value] = Batch(len(offered))
    items = list(offered)  # each look at a repeated field makes its messages anew
    rules = ItemRules(items)
    for place, item in enumerate(items, start=offset):
        if wrong := rules.rejection(place, item):
            batch.rejections.append(wrong)
            continue
        try:
            value = read(item)
        except Refused as error:
            batch.rejections.append(refused(place, error.refusal))
            continue
        batch.values.append(value)
        batch.places.append(place)
    return batch


def judge_all(
    offered: Sequence[Offered], read: Callable[[Columns[Offered]], list[Value]], offset: int = 0
) -> Batch[Value]:
    """`judge` where many items are read in one go."""
    items = list(offered)
    if items:
        columns = Columns(items)
        try:
            if all_valid(columns):
                return Batch(len(items), read(columns), list(range(offset, offset + len(items))))
        except Refused:  # found out below by which of them
            pass
    return judge(items, lambda item: read(Columns([item]))[0], offset)


@dataclass(slots=True)
class Tally:
    """Counts over the batches of a stream."""

    accepted: int = 0
    rejected: int = 0
    rejections: list[status_pb2.Rejection] = field(default_factory=list)

    @property
    def offset(self) -> int:
        """Position in the stream of the next batch's first item."""
        return self.accepted + self.rejected

    def add(self, accepted: int, rejections: Iterable[status_pb2.Rejection]) -> None:
        """Count a batch; the first rejections by position are kept, in whatever order they come."""
        self.accepted += accepted
        if found := list(rejections):
            self.rejected += len(found)
            kept = sorted([*self.rejections, *found], key=lambda entry: entry.index)
            self.rejections = kept[:MOST_REJECTIONS]


def refused(place: int, refusal: Refusal) -> status_pb2.Rejection:
    """Why the item at a position was not accepted."""
    fields = [FieldError(refusal.path, refusal.message)] if refusal.path else []
    return rejection(place, refusal.reason, refusal.message, fields)
