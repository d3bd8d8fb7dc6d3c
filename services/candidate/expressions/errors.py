"""The one error of this package."""


class ExpressionError(ValueError):
    """An expression that can't be used: it doesn't parse, its types don't fit, it names an unknown
    attribute, it asks for something unsupported, or it would cost too much."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        """For people, without the position."""
        self.line = line
        """From 1."""
        self.column = column
        """From 1, in code points."""


def error_at(text: str, offset: int, message: str) -> ExpressionError:
    """The error at `offset` code points into `text`."""
    before = text[:offset]
    line_start = before.rfind("\n") + 1
    return ExpressionError(message, before.count("\n") + 1, offset - line_start + 1)
