"""What inputs of the model must be like for any backend to take them."""

from services.ranker.backend import MOST_EVENTS, MOST_USERS
from services.ranker.features.items import CONTENT_DIMENSIONS
from services.ranker.features.schema import (
    EVENT_FEATURES,
    STEPS,
    TABLE_ROWS,
    USER_FEATURES,
    Features,
    FeatureSpec,
)
from services.ranker.triton_model.buckets import USER_ROW, BadInputs, Input, measured


def _input(spec: FeatureSpec, rows: str) -> Input:
    shape = ("steps",) if spec.shape == (STEPS,) else spec.shape
    if spec.is_ref:
        return Input(spec.name, "int32", (rows, *shape), "items")
    return Input(spec.name, spec.dtype, (rows, *shape), TABLE_ROWS.get(spec.name))


INPUTS = (
    *(_input(spec, "users") for spec in USER_FEATURES),
    *(_input(spec, "events") for spec in EVENT_FEATURES),
    Input("items", "float32", ("items", CONTENT_DIMENSIONS)),
    Input(USER_ROW, "int32", ("events",), "users"),
)
"""The arrays of `features.model_inputs`."""


def check_inputs(inputs: Features) -> None:
    """Raises BadInputs for arrays that are missing or don't agree, for a run that is empty or too
    large, and for indices outside of their tables: ONNX Runtime takes −1 for the last row."""
    if missing := {each.name for each in INPUTS} - inputs.keys():
        raise BadInputs(f"inputs lack {', '.join(sorted(missing))}")
    sizes = measured(INPUTS, inputs)
    for axis, most in (("users", MOST_USERS), ("events", MOST_EVENTS), ("steps", STEPS)):
        if sizes[axis] > most:
            raise BadInputs(f"{sizes[axis]} {axis}, at most {most} in a run")
