"""serving.json: what the rendered folder of a model says to model.py."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .buckets import Bucket, Input

SERVING_FILE = "serving.json"


@dataclass(frozen=True)
class Serving:
    """How one model version is served."""

    version: str
    model_file: str
    heads: int
    provider: str
    threads: int
    buckets: tuple[Bucket, ...]
    inputs: tuple[Input, ...]


def write_serving(folder: Path, serving: Serving) -> None:
    """Write serving.json."""
    (folder / SERVING_FILE).write_text(json.dumps(asdict(serving), indent=1) + "\n")


def read_serving(folder: Path) -> Serving:
    """Read serving.json. Raises OSError, ValueError, KeyError or TypeError for a broken one."""
    fields = json.loads((folder / SERVING_FILE).read_text())
    fields["buckets"] = tuple(Bucket(**each) for each in fields["buckets"])
    fields["inputs"] = tuple(
        Input(**{**each, "shape": tuple(each["shape"])}) for each in fields["inputs"]
    )
    return Serving(**fields)
