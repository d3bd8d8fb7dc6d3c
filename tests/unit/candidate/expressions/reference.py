"""The library's own evaluation, user by user: `user` is a map from which absent attributes are left
out, so that CEL's rules for unknown keys say what becomes of them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.unit.candidate.expressions.users import NOW, User

FAILED = "failed"
"""Stands for an error."""

_ENVIRONMENT = cel.NewEnv(
    variables={"user": cel.Type.Map(cel.Type.STRING, cel.Type.DYN), "now": cel.Type.TIMESTAMP},
    extensions=[ext_strings.ExtStrings()],
)


def reference(text: str, users: Iterable[User]) -> list[Any]:
    """The expression's value for each user, as a Python value, or FAILED."""
    compiled = _ENVIRONMENT.compile(text, disable_check=True)
    results = [
        compiled.eval(data={"user": {name: _message(v) for name, v in user.items()}, "now": NOW})
        for user in users
    ]
    return [FAILED if value.type() == cel.Type.ERROR else value.value() for value in results]


def _message(value: Any) -> Any:
    """A value as the library takes it within a map."""
    if isinstance(value, datetime):
        time = Timestamp()
        time.FromDatetime(value)
        return time
    if isinstance(value, timedelta):
        span = Duration()
        span.FromTimedelta(value)
        return span
    return value
