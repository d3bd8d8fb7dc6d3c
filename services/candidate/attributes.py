"""Users' attributes as columns, for filters and boosters."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from heliograph.type.v1alpha1 import event_pb2

from services.candidate.expressions import (
    AttributeType,
    Columns,
    Schema,
    TypedValue,
    build_columns,
    read_values,
)


def user_columns(bodies: Iterable[bytes]) -> Columns:
    """The table of the users stored as `bodies`, in their order.

    An attribute has the type that most users' values have; a double where some are whole numbers
    and some are not. Who has it in another type counts as one without it.
    """
    users = [read_values(event_pb2.User.FromString(body).attributes) for body in bodies]
    return build_columns(users, _schema(users))


def _schema(users: Iterable[dict[str, TypedValue]]) -> Schema:
    kinds: defaultdict[str, Counter[AttributeType]] = defaultdict(Counter)
    longest: Counter[str] = Counter()
    for attributes in users:
        for name, value in attributes.items():
            kinds[name][value.type] += 1
            if isinstance(value.raw, list | dict):
                longest[name] = max(longest[name], len(value.raw))
    return Schema({name: _type(found) for name, found in kinds.items()}, longest)


def _type(found: Counter[AttributeType]) -> AttributeType:
    ((kind, _),) = found.most_common(1)
    mixed = kind is AttributeType.INT and found[AttributeType.DOUBLE] > 0
    return AttributeType.DOUBLE if mixed else kind
