"""Attributes of users and items, for filters and boosters."""

from heliograph.type.v1alpha1 import event_pb2

from services.candidate.expressions import TypedValue, read_values


def read_user(body: bytes) -> dict[str, TypedValue]:
    """The attributes of a stored user."""
    return read_values(event_pb2.User.FromString(body).attributes)


def read_item(body: bytes) -> dict[str, TypedValue]:
    """The attributes of a stored item."""
    return read_values(event_pb2.Item.FromString(body).attributes)
