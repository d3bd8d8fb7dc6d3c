"""What an expression costs per row, told before anything runs.

One unit is one simple operation on one row. A macro costs its condition once for each element:
those of a literal, or as many as the longest list or map of that attribute has.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.candidate.expressions.errors import error_at
from services.candidate.expressions.schema import Schema
from services.candidate.expressions.syntax import (
    Invocation,
    ListLiteral,
    Loop,
    MapLiteral,
    Name,
    Select,
    Syntax,
)

MAX_COST = 2000
"""Greatest cost per row. A unit takes one to five nanoseconds, so a filter over a million users
takes some seconds at worst, if all their lists are as long as the longest."""

_COSTS = {"matches": 20, "contains": 5, "_+_": 2, "lowerAscii": 5, "upperAscii": 5, "string": 5}


def require_affordable(tree: Syntax, text: str, schema: Schema) -> int:
    """The cost per row; ExpressionError if it is more than `MAX_COST`."""
    cost = _Estimate(schema, {}).cost(tree)
    if cost > MAX_COST:
        message = (
            f"the expression costs up to {cost} operations per {schema.owner}; at most {MAX_COST}"
        )
        raise error_at(text, tree.offset, f"{message} are allowed")
    return cost


@dataclass(frozen=True, slots=True)
class _Estimate:
    schema: Schema
    walked: Mapping[str, Syntax]
    """What each variable in scope walks through."""

    def cost(self, tree: Syntax) -> int:
        match tree:
            case Invocation(function=function, arguments=arguments):
                own = _COSTS.get(function, 1)
                if function == "@in" or (function == "_[_]" and not self._is_at_hand(*arguments)):
                    own += max(map(self._length, arguments))
                return own + sum(map(self.cost, arguments))
            case ListLiteral(elements=elements):
                return 1 + sum(map(self.cost, elements))
            case MapLiteral(entries=entries):
                return 1 + sum(self.cost(part) for entry in entries for part in entry)
            case Loop(variable=variable, range=over, condition=condition):
                within = _Estimate(self.schema, {**self.walked, variable: over})
                length = max(1, self._length(over))
                return 1 + self.cost(over) + length * (1 + within.cost(condition))
            case Select(operand=operand):
                return 1 + self._length(operand) + self.cost(operand)
            case _:
                return 1

    def _is_at_hand(self, container: Syntax, key: Syntax) -> bool:
        """Whether this is the entry at which a loop through the same map stands."""
        if not isinstance(container, Name) or not isinstance(key, Name):
            return False
        over = self.walked.get(key.name)
        return isinstance(over, Name) and over.name == container.name

    def _length(self, tree: Syntax) -> int:
        """How many elements to reckon with in a list or map; 0 for anything else."""
        match tree:
            case ListLiteral(elements=elements):
                return len(elements)
            case MapLiteral(entries=entries):
                return len(entries)
            case Name(name=name) if name.startswith(f"{self.schema.owner}."):
                attribute = name.removeprefix(f"{self.schema.owner}.")
                kind = self.schema.types.get(attribute)
                return self.schema.longest_of(attribute) if kind and kind.is_collection else 0
            case Invocation(function="_+_", arguments=arguments):
                return sum(map(self._length, arguments))
            case _:
                return 0
