"""What is admitted of a batch, and what the migration makes of what is stored."""

from datetime import UTC, datetime
from importlib import import_module

from heliograph.type.v1alpha1 import attribute_pb2, event_pb2

from services.candidate.attribute_types import Decided, Owner, judged
from services.candidate.catalogue_store import Record
from services.candidate.expressions import AttributeType
from services.candidate.messages import attribute_types

NOW = datetime(2026, 1, 5, tzinfo=UTC)
Value = attribute_pb2.AttributeValue
INT, STRING = AttributeType.INT, AttributeType.STRING


def _record(name: str, **attributes: Value) -> Record:
    user = event_pb2.User(user_id=name, attributes=attributes)
    return Record(name, user.SerializeToString(), None, types=attribute_types(user.attributes))


def test_of_a_new_attribute_the_first_value_that_is_stored_decides() -> None:
    known = {"age": Decided(Owner.USER, "age", INT, NOW)}
    batch = [
        _record("a", age=Value(string_value="3"), level=Value(string_value="three")),
        _record("b", level=Value(int_value=3)),
        _record("c", level=Value(string_value="three")),
        _record("d", age=Value(number_value=3.0)),
    ]
    found = judged(Owner.USER, batch, known, NOW)
    assert sorted(found.refusals) == [0, 2]
    assert {name: each.type for name, each in found.new.items()} == {"level": INT}
    assert [record.name for record in found.records] == ["b", "d"]
    assert found.records[0] is batch[1]
    assert event_pb2.User.FromString(found.records[1].body).attributes["age"].int_value == 3


def test_what_is_stored_has_the_types_of_most_values() -> None:
    migration = import_module("services.candidate.migrations.versions.0009_attribute_types")
    users = [event_pb2.User(attributes={"level": Value(int_value=n)}) for n in range(3)]
    users[0].attributes["level"].string_value = "3"
    users.append(event_pb2.User(attributes={"score": Value(number_value=0.5)}))
    assert migration.types_of(users) == {"level": "int", "score": "double"}
    item = event_pb2.Item(item_type="film", attributes={"item_type": Value(int_value=1)})
    numbered = event_pb2.Item(attributes={"item_type": Value(int_value=1)})
    assert migration.types_of([item, numbered]) == {"item_type": "string"}
    assert set(migration.TYPES.values()) == {kind.value for kind in AttributeType}
