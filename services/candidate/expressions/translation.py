"""From the tree of a checked expression to the graph that is computed."""

from services.candidate.expressions import logic, times
from services.candidate.expressions.checking import NOW
from services.candidate.expressions.containers import (
    Collection,
    Container,
    Containers,
    Sequence,
    Table,
)
from services.candidate.expressions.errors import ExpressionError, error_at
from services.candidate.expressions.functions import FUNCTIONS, PATTERN_FUNCTIONS
from services.candidate.expressions.literals import (
    LiteralFault,
    parse_literal,
    require_pattern,
    require_zone,
)
from services.candidate.expressions.nodes import Constant, Node, Nodes
from services.candidate.expressions.schema import AttributeType, Schema
from services.candidate.expressions.syntax import (
    Invocation,
    ListLiteral,
    Literal,
    Loop,
    MapLiteral,
    Name,
    Select,
    Syntax,
)

_LITERAL_TYPES = {
    bool: AttributeType.BOOL,
    int: AttributeType.INT,
    float: AttributeType.DOUBLE,
    str: AttributeType.STRING,
}
_PARSED = {"timestamp": AttributeType.TIMESTAMP, "duration": AttributeType.DURATION}


class Translator:
    """Translates one expression."""

    def __init__(self, text: str, schema: Schema, nodes: Nodes) -> None:
        self._text = text
        self._schema = schema
        self._nodes = nodes
        self._containers = Containers(nodes)
        self._bound: dict[str, Node] = {}

    @property
    def nests(self) -> frozenset[tuple[str, ...]]:
        """The list and map attributes of each nest of loops."""
        return frozenset(self._containers.nests)

    def scalar(self, tree: Syntax) -> Node:
        """The node of a part that is neither a list nor a map."""
        value = self._value(tree)
        if isinstance(value, Node):
            return value
        raise self._refused(tree, "a list or a map can't stand here")

    def _refused(self, tree: Syntax, message: str) -> ExpressionError:
        return error_at(self._text, tree.offset, message)

    def _value(self, tree: Syntax) -> Node | Container:
        match tree:
            case Literal(value=value):
                return self._nodes.constant(_LITERAL_TYPES[type(value)], value)
            case Name():
                return self._name(tree)
            case Select():
                return self._select(tree)
            case Invocation():
                return self._call(tree)
            case ListLiteral(elements=elements):
                return Sequence(self._alike(tree, *map(self.scalar, elements)))
            case MapLiteral():
                return self._table(tree)
            case Loop():
                return self._loop(tree)

    def _alike(self, tree: Syntax, *nodes: Node) -> tuple[Node, ...]:
        if len({node.type for node in nodes}) > 1:
            raise self._refused(tree, "all elements of a list or map have to be of one type")
        return nodes

    def _table(self, tree: MapLiteral) -> Table:
        keys = self._alike(tree, *(self.scalar(key) for key, _ in tree.entries))
        if any(not isinstance(key, Constant) for key in keys) or len(set(keys)) < len(keys):
            raise self._refused(tree, "the keys of a map have to be literals that differ")
        return Table(keys, self._alike(tree, *(self.scalar(value) for _, value in tree.entries)))

    def _name(self, tree: Name) -> Node | Collection:
        owner, _, attribute = tree.name.partition(".")
        if tree.name in self._bound:
            return self._bound[tree.name]
        if tree.name == NOW:
            return self._nodes.now()
        if owner == self._schema.presence:
            return self._nodes.presence(attribute)
        if owner != self._schema.owner:
            raise self._refused(tree, f"{tree.name} can't be used as a value")
        kind = self._schema.types[attribute]
        if kind.is_collection:
            return Collection(attribute, kind is AttributeType.NUMBER_MAP)
        return self._nodes.attribute(kind, attribute)

    def _select(self, tree: Select) -> Node:
        operand = self._value(tree.operand)
        if isinstance(operand, Node | Sequence):
            raise self._refused(tree, f'there is no field "{tree.field}" here')
        key = self._nodes.constant(AttributeType.STRING, tree.field)
        return (
            self._containers.member(key, operand)
            if tree.is_test
            else self._item(tree, operand, key)
        )

    def _item(self, tree: Syntax, container: Container, key: Node) -> Node:
        item = self._containers.item(container, key)
        if item is None:
            raise self._refused(tree, "an empty literal has no elements")
        return item

    def _loop(self, tree: Loop) -> Node:
        over = self._value(tree.range)
        if isinstance(over, Node):
            raise self._refused(tree, f"{tree.macro.value} needs a list or a map")
        if isinstance(over, Collection):
            with self._containers.loop(over) as variable:
                condition = self._bind(tree, self._nodes.element(variable))
            return self._nodes.quantifier(tree.macro, variable, condition)
        elements = over.keys if isinstance(over, Table) else over.elements
        conditions = [self._bind(tree, element) for element in elements]
        return self._containers.unrolled(tree.macro, over, conditions)

    def _bind(self, tree: Loop, element: Node) -> Node:
        """The loop's condition for an element."""
        outer = self._bound
        self._bound = {**outer, tree.variable: element}
        condition = self.scalar(tree.condition)
        self._bound = outer
        return condition

    def _call(self, tree: Invocation) -> Node | Container:
        values = [self._value(argument) for argument in tree.arguments]
        match tree.function, values:
            case "_[_]", [Collection() | Sequence() | Table() as container, Node() as key]:
                return self._item(tree, container, key)
            case "@in", [Node() as element, Collection() | Sequence() | Table() as container]:
                return self._containers.member(element, container)
            case "size", [Collection() | Sequence() | Table() as container]:
                return self._containers.size(container)
            case "_+_", [Sequence(elements=first), Sequence(elements=second)]:
                return Sequence(self._alike(tree, *first, *second))
            case "_==_" | "_!=_", [
                Collection() | Sequence() | Table() as left,
                Collection() | Sequence() | Table() as right,
            ]:
                equal = self._containers.equal(left, right)
                if equal is None:
                    raise self._refused(tree, "only lists can be compared, one with a literal")
                return self._negated(equal) if tree.function == "_!=_" else equal
            case _:
                nodes = [value for value in values if isinstance(value, Node)]
                if len(nodes) < len(values):
                    message = f"{_shown(tree.function)} isn't supported for lists and maps"
                    raise self._refused(tree, message)
                return self._scalar_call(tree, nodes)

    def _scalar_call(self, tree: Invocation, arguments: list[Node]) -> Node:
        first, rest = arguments[0], arguments[1:]
        name, kind = tree.function, first.type
        if name == "_!=_":
            return self._negated(self._function(tree, "_==_", arguments))
        try:
            if name in PATTERN_FUNCTIONS:
                pattern = self._literal(tree, rest[0])
                require_pattern(name, pattern)
                kernel = PATTERN_FUNCTIONS[name]
                return self._nodes.call(AttributeType.BOOL, kernel, first, parameter=pattern)
            if name in _PARSED and kind is AttributeType.STRING:
                parsed = parse_literal(_PARSED[name], self._literal(tree, first))
                return self._nodes.constant(_PARSED[name], parsed)
            if name in times.TIME_PARTS and kind is AttributeType.TIMESTAMP:
                zone = self._literal(tree, rest[0]) if rest else "UTC"
                require_zone(zone)
                part = (name, zone)
                return self._nodes.call(AttributeType.INT, times.time_part, first, parameter=part)
            if name in times.SPAN_PARTS and kind is AttributeType.DURATION:
                return self._nodes.call(AttributeType.INT, times.span_part, first, parameter=name)
        except LiteralFault as fault:
            raise self._refused(tree, str(fault)) from None
        return self._function(tree, name, arguments)

    def _negated(self, condition: Node) -> Node:
        return self._nodes.call(AttributeType.BOOL, logic.negation, condition)

    def _literal(self, tree: Invocation, argument: Node) -> str:
        if not isinstance(argument, Constant) or not isinstance(argument.value, str):
            message = f"the text that {tree.function} takes has to be a literal"
            raise self._refused(tree, message)
        return argument.value

    def _function(self, tree: Invocation, name: str, arguments: list[Node]) -> Node:
        kinds = tuple(argument.type for argument in arguments)
        function = FUNCTIONS.get((name, kinds))
        if function is None:
            told = ", ".join(kind.value for kind in kinds)
            raise self._refused(tree, f"{_shown(name)} isn't supported for ({told})")
        return self._nodes.call(function.result, function.kernel, *arguments)


def _shown(function: str) -> str:
    """An operator as people write it."""
    return "in" if function == "@in" else function.strip("_").replace("_", " ")
