"""CEL expressions over typed user attributes, evaluated column by column over all users.

`compile_filter` and `compile_booster` make programs from text; a program is evaluated over
`Columns`. Google's CEL library parses and type-checks; the evaluation is ours, and gives for each
row what the library gives.
"""

from services.candidate.expressions.building import ColumnsBuilder, build_columns
from services.candidate.expressions.checking import check_syntax
from services.candidate.expressions.columns import Columns
from services.candidate.expressions.errors import ExpressionError
from services.candidate.expressions.merging import merge_columns
from services.candidate.expressions.program import (
    BoosterProgram,
    Factors,
    FilterProgram,
    Matches,
    compile_booster,
    compile_filter,
)
from services.candidate.expressions.schema import AttributeType, Schema
from services.candidate.expressions.values import (
    TypedValue,
    converted,
    read_value,
    read_values,
    typed_value,
    value_type,
)

__all__ = [
    "AttributeType",
    "BoosterProgram",
    "Columns",
    "ColumnsBuilder",
    "ExpressionError",
    "Factors",
    "FilterProgram",
    "Matches",
    "Schema",
    "TypedValue",
    "build_columns",
    "check_syntax",
    "compile_booster",
    "compile_filter",
    "converted",
    "merge_columns",
    "read_value",
    "read_values",
    "typed_value",
    "value_type",
]
