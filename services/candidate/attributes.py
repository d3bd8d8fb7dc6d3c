"""Users' attributes as columns, for filters and boosters."""

from collections.abc import Iterable

from heliograph.type.v1alpha1 import event_pb2

from services.candidate.expressions import Columns, ColumnsBuilder, Schema, read_values

EMPTY = Schema({})


def user_columns(bodies: Iterable[bytes], known: Schema = EMPTY) -> Columns:
    """The table of the users stored as `bodies`, in their order.

    An attribute has the type that `known` gives it, else the one that most users' values have; a
    double where some are whole numbers and some are not. Who has it in another type counts as one
    without it.
    """
    builder = ColumnsBuilder(known, grows=True)
    for body in bodies:
        builder.add(read_values(event_pb2.User.FromString(body).attributes))
    return builder.finish()
