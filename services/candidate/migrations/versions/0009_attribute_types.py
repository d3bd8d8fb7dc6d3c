"""Types of attributes: decided once, for all processes."""

from collections import Counter
from collections.abc import Iterable

from alembic import op
from heliograph.type.v1alpha1 import event_pb2
from sqlalchemy import text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ATTRIBUTE_TYPES = """
CREATE TABLE attribute_types (
    owner text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    type text NOT NULL,
    set_time timestamptz NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT attribute_type_decided_once PRIMARY KEY (owner, name),
    CONSTRAINT attribute_owner_known CHECK (owner IN ('user', 'item')),
    CONSTRAINT attribute_type_known CHECK (type IN ('bool', 'int', 'double', 'string', 'timestamp',
        'duration', 'list(string)', 'map(string, double)'))
);
COMMENT ON COLUMN attribute_types.set_time IS 'Of the first value, or when an operator set it.';
"""
TYPES = {
    "string_value": "string",
    "number_value": "double",
    "int_value": "int",
    "bool_value": "bool",
    "time_value": "timestamp",
    "duration_value": "duration",
    "list_value": "list(string)",
    "map_value": "map(string, double)",
}
ROWS = 5_000
INSERT = text(
    "INSERT INTO attribute_types (owner, name, type, set_time) "
    "VALUES (:owner, :name, :type, transaction_timestamp())"
)


def upgrade() -> None:
    """Create the table, and decide the types of what is stored by most of the values; the
    others don't count. Code from before it decides nothing: attributes that it brings have no type
    until code from after it stores a value."""
    op.execute(ATTRIBUTE_TYPES)
    _decide("user", "SELECT body FROM users", event_pb2.User)
    _decide("item", "SELECT body FROM items", event_pb2.Item)


def _decide(owner: str, query: str, message: type[event_pb2.User] | type[event_pb2.Item]) -> None:
    statement = text(query).execution_options(yield_per=ROWS)
    bodies = op.get_bind().execute(statement)
    for name, kind in types_of(message.FromString(row.body) for row in bodies).items():
        op.get_bind().execute(INSERT, {"owner": owner, "name": name, "type": kind})


def types_of(stored: Iterable[event_pb2.User | event_pb2.Item]) -> dict[str, str]:
    """The type of each attribute: that of most of its values. The items' `item_type` is a string,
    as the field of this name is."""
    counts: dict[str, Counter[str]] = {}
    items = False
    for content in stored:
        for name, value in content.attributes.items():
            if kind := value.WhichOneof("kind"):
                counts.setdefault(name, Counter())[TYPES[kind]] += 1
        if isinstance(content, event_pb2.Item):
            items = True
            if content.item_type:
                counts.setdefault("item_type", Counter())["string"] += 1
    types = {name: max(sorted(found), key=found.__getitem__) for name, found in counts.items()}
    return types | ({"item_type": "string"} if items and "item_type" in types else {})
