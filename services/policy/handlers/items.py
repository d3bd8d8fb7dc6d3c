"""Items of a batch: each is checked by itself, so that a bad one never loses a good one."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from google.protobuf.message import Message
from heliograph.type.v1alpha1 import status_pb2

from services.runtime.errors import InvalidArgument
from services.runtime.validation import ItemRules, rejection

Item = TypeVar("Item", bound=Message)
Value = TypeVar("Value")


def read_items(
    items: Iterable[Item], read: Callable[[Item], Value], first_index: int = 0
) -> tuple[dict[int, Value], list[status_pb2.Rejection]]:
    """The values of the good items by index, and the rejections of the others.

    `read` converts a valid message; it raises InvalidArgument for what the protos can't say.
    """
    values: dict[int, Value] = {}
    rejections: list[status_pb2.Rejection] = []
    rules = ItemRules()
    for index, item in enumerate(items, start=first_index):
        if wrong := rules.rejection(index, item):
            rejections.append(wrong)
            continue
        try:
            values[index] = read(item)
        except InvalidArgument as error:
            rejections.append(rejection(index, error.reason, error.message, error.fields))
    return values, rejections


def refused(index: int, reason: str, message: str) -> status_pb2.Rejection:
    """Why a well-formed item was not accepted."""
    return rejection(index, reason, message)


def in_order(rejections: Iterable[status_pb2.Rejection]) -> list[status_pb2.Rejection]:
    """Rejections by index."""
    return sorted(rejections, key=lambda one: one.index)
