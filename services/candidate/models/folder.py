"""A fitted model as a folder: raw arrays, and a manifest with the size and SHA-256 of each.

Loading never runs anything out of the folder: arrays are read without pickle, the rest is JSON.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from services.candidate.models.attributes import Attributes, Vocabulary
from services.candidate.models.context import Clock
from services.candidate.models.folder_parts import direction_parts, read_direction
from services.candidate.models.model import CandidateModel, Side
from services.candidate.models.rankers import FactorRanker
from services.candidate.sources.arrays import Matrix

FORMAT = "heliograph-candidate-model"
VERSION = 5
MANIFEST = "manifest.json"
SIDES: tuple[Side, Side] = ("items", "users")
AUDIENCE = "audience"


class ModelFolderError(Exception):
    """A folder that is no whole model of this version; the message names the file."""


def save(model: CandidateModel, folder: Path) -> None:
    """Write the folder, in one step: a killed run leaves none. Raises ModelFolderError when there
    is something else at that place."""
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise ModelFolderError(f"{folder}: is not empty and holds no model; nothing was written")
    folder.parent.mkdir(parents=True, exist_ok=True)
    arrays, facts = _parts(model)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work:
        written = Path(work) / "model"
        written.mkdir()
        files = {}
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            content = data.getvalue()
            (written / f"{name}.npy").write_bytes(content)
            files[f"{name}.npy"] = {
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        manifest = {"format": FORMAT, "version": VERSION, "files": files, **facts}
        text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        (written / MANIFEST).write_text(text)
        if folder.exists():
            os.replace(folder, Path(work) / "old")
        os.replace(written, folder)


def load(folder: Path) -> CandidateModel:
    """Read a folder. Raises ModelFolderError when it isn't whole, was altered, or is of another
    version."""
    manifest = _manifest(folder / MANIFEST)
    try:
        arrays = {
            name.removesuffix(".npy"): _array(folder, name, pin)
            for name, pin in manifest["files"].items()
        }
        return _model(manifest, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelFolderError(f"{folder / MANIFEST}: does not fit its files: {error}") from error


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFolderError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path}: is not whole JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFolderError(f"{path}: is no {FORMAT} manifest")
    if manifest.get("version") != VERSION:
        found = manifest.get("version")
        raise ModelFolderError(f"{path}: version {found!r}; this program reads {VERSION}")
    return manifest


def _array(folder: Path, name: str, pin: Mapping[str, Any]) -> Any:
    path = folder / name
    if not name.endswith(".npy") or Path(name).name != name:
        raise ModelFolderError(f"{folder / MANIFEST}: names the file {name!r}")
    try:
        size = path.stat().st_size
        if size != pin["bytes"]:
            kind = "cut short" if size < pin["bytes"] else "altered"
            raise ModelFolderError(f"{path}: {kind}: {size:,} of {pin['bytes']:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise ModelFolderError(f"{path}: cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != pin["sha256"]:
        raise ModelFolderError(f"{path}: altered: SHA-256 is {found}, not {pin['sha256']}")
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise ModelFolderError(f"{path}: is no plain array: {error}") from error


def _parts(model: CandidateModel) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays: dict[str, Any] = {
        **_texts("user_ids", model.user_ids),
        **_texts("item_ids", model.item_ids),
        **_sparse("matrix", model.matrix),
        **_sparse("seen", model.seen),
    }
    facts = {}
    for name, attributes in model.attributes.items():
        arrays |= _sparse(f"attributes_{name}_table", attributes.table)
        arrays[f"attributes_{name}_weights"] = attributes.vocabulary.weights
        if attributes.vectors is not None:
            arrays[f"attributes_{name}_vectors"] = attributes.vectors
        vocabulary = attributes.vocabulary
        facts[name] = {"places": dict(vocabulary.places), "edges": dict(vocabulary.edges)}
    sides: dict[str, Any] = {}
    for side in SIDES:
        own, about = direction_parts(model.directions[side])
        arrays |= {f"{side}_{name}": array for name, array in own.items()}
        sides[side] = about
    if model.audience is not model.directions["users"]:
        own, sides[AUDIENCE] = direction_parts(model.audience)
        arrays |= {f"{AUDIENCE}_{name}": array for name, array in own.items()}
    clock = None
    if model.clock is not None:
        clock = {"now_s": model.clock.now, "horizon_s": model.clock.horizon}
    return arrays, {
        "clock": clock,
        "directions": sides,
        "attributes": facts,
    }


def _model(manifest: Mapping[str, Any], arrays: Mapping[str, Any]) -> CandidateModel:
    users, items = _read_texts(arrays, "user_ids"), _read_texts(arrays, "item_ids")
    shape, turned = (len(users), len(items)), (len(items), len(users))
    found = {
        name: read_direction(_own(arrays, f"{name}_"), facts, shape if name == "items" else turned)
        for name, facts in manifest["directions"].items()
    }
    audience = found.get(AUDIENCE, found["users"])
    if not isinstance(audience.ranker, FactorRanker):
        raise ValueError("its users are not an index of vectors")
    clock = manifest["clock"]
    sizes = {"users": shape[0], "items": shape[1]}
    return CandidateModel(
        users,
        items,
        _read_sparse(arrays, "matrix", shape),
        _read_sparse(arrays, "seen", shape),
        {side: found[side] for side in SIDES},
        audience,
        None if clock is None else Clock(float(clock["now_s"]), float(clock["horizon_s"])),
        {
            name: _read_attributes(_own(arrays, f"attributes_{name}_"), facts, sizes[name])
            for name, facts in manifest["attributes"].items()
        },
    )


def _read_attributes(arrays: Mapping[str, Any], facts: Mapping[str, Any], size: int) -> Attributes:
    places = {str(token): int(place) for token, place in facts["places"].items()}
    vocabulary = Vocabulary(places, arrays["weights"], facts["edges"])
    vectors = arrays.get("vectors")
    if len(arrays["weights"]) != len(places) or (vectors is not None and len(vectors) != size):
        raise ValueError("attributes are of another size than the ids or features")
    table = _read_sparse(arrays, "table", (size, max(len(places), 1)))
    return Attributes(vocabulary, table, vectors)


def _own(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _texts(name: str, texts: Sequence[str]) -> dict[str, Any]:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return {name: np.frombuffer(b"".join(encoded), np.uint8), f"{name}_ends": ends}


def _read_texts(arrays: Mapping[str, Any], name: str) -> list[str]:
    content, ends = arrays[name].tobytes(), arrays[f"{name}_ends"].tolist()
    begins = [0, *ends[:-1]]
    return [
        content[begin:end].decode("utf-8", "surrogatepass")
        for begin, end in zip(begins, ends, strict=True)
    ]


def _sparse(name: str, table: Matrix) -> dict[str, Any]:
    return {
        f"{name}_indptr": table.indptr.astype(np.int64),
        f"{name}_indices": table.indices.astype(np.int32),
        f"{name}_data": table.data.astype(np.float32),
    }


def _read_sparse(arrays: Mapping[str, Any], name: str, shape: tuple[int, int]) -> Matrix:
    parts: Any = (arrays[f"{name}_data"], arrays[f"{name}_indices"], arrays[f"{name}_indptr"])
    table: Matrix = csr_array(parts, shape=shape)
    table.check_format(full_check=True)
    return table
