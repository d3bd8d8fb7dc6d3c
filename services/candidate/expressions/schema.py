"""Types of attributes, and the attributes that an expression may name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

LONGEST_COLLECTION = 64
"""Greatest length of a list or map attribute, as `heliograph.type.v1alpha1` limits it."""


class AttributeType(Enum):
    """Type of an attribute, or of a part of an expression; the value is its name in CEL."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    TIMESTAMP = "timestamp"
    DURATION = "duration"
    STRING_LIST = "list(string)"
    NUMBER_MAP = "map(string, double)"

    @property
    def is_collection(self) -> bool:
        """Whether it is a list or a map."""
        return self in (AttributeType.STRING_LIST, AttributeType.NUMBER_MAP)


@dataclass(frozen=True, eq=False, slots=True)
class Schema:
    """The attributes that users (or items) may have."""

    types: Mapping[str, AttributeType]
    """Type by attribute name."""
    longest: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Greatest length in use of a list or map attribute; one that isn't named counts as
    `LONGEST_COLLECTION`. The cost of an expression is estimated with it."""
    owner: str = "user"
    """What expressions call a row: attributes are written `owner.NAME`."""

    def longest_of(self, name: str) -> int:
        """Greatest length to reckon with of the list or map attribute `name`."""
        return self.longest.get(name, LONGEST_COLLECTION)

    @property
    def presence(self) -> str:
        """What variables begin with that stand for `has(owner.NAME)`."""
        return f"has_{self.owner}"
