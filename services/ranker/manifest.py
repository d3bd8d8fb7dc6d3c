"""model.json: what a folder of the model registry says about its model."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from services.ranker.features.vocabulary import Head

MODEL_FILE = "model.onnx"
HALF_MODEL_FILE = "model.fp16.onnx"
"""The same model in half precision, where a folder has one."""
HALF_OF = "half_of"
"""The property of a model in half precision that names the SHA-256 of what it was made from."""
MANIFEST_FILE = "model.json"
CARD_FILE = "card.md"
GOLDEN_FILE = "golden.npz"
"""Inputs and the answers they must get; see golden."""


class ManifestError(Exception):
    """A model folder that is incomplete, altered, or made for other features; says which."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Facts of one model version; `version` is the name of its folder."""

    version: str
    train_time: str
    """RFC 3339."""
    seed: int
    schema_hash: str
    """Version of the features it reads; see features.schema_hash."""
    sha256: str
    """Of model.onnx, in hexadecimal."""
    weights_sha256: str
    """Of the trained weights alone: equal for equal log, seed, torch and kind of processor."""
    parameters: int
    heads: tuple[Head, ...]
    trained_heads: tuple[Head, ...]
    log: dict[str, Any]
    """What it was trained on: rows, users, times, labels and positives per head."""
    metrics: dict[str, dict[str, list[float | None]]]
    """By head and metric: value, low and high end of the 95 % interval; null: not defined."""
    golden_sha256: str = ""
    """Of golden.npz, in hexadecimal; empty: it has none."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write model.json."""
    fields = asdict(manifest)
    fields["heads"] = [head.name for head in manifest.heads]
    fields["trained_heads"] = [head.name for head in manifest.trained_heads]
    (folder / MANIFEST_FILE).write_text(json.dumps(fields, indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read model.json. Raises ManifestError when it is missing or not what it should be."""
    path = folder / MANIFEST_FILE
    try:
        fields = json.loads(path.read_text())
        fields["heads"] = tuple(Head[name] for name in fields["heads"])
        fields["trained_heads"] = tuple(Head[name] for name in fields["trained_heads"])
        manifest = Manifest(**fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path.name} of {folder.name} can't be read: {error}") from error
    if manifest.version != folder.name:
        raise ManifestError(f"{folder.name}: {path.name} is of version {manifest.version}")
    return manifest


def file_hashes(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their names."""
    return {path.name: file_sha256(path) for path in paths}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return sha256(path.read_bytes()).hexdigest()
