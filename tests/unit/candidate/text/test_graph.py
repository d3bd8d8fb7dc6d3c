"""The graph that is kept, and the reader of the header it was made from."""

import json
from pathlib import Path

import pytest

from services.candidate.text import TextModelError
from services.candidate.text.encoder import GRAPH_FILE
from services.candidate.text.graph import Stored, build, read_header
from services.candidate.text.weights import WEIGHTS_FILE


def written(folder: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path = folder / "made.safetensors"
    count = len(header) if length is None else length
    path.write_bytes(count.to_bytes(8, "little") + header + data)
    return path


def entry(shape: list[int], start: int, end: int) -> bytes:
    return json.dumps(
        {"w": {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}}
    ).encode()


def test_the_graph_is_what_its_code_makes(model_folder: Path) -> None:
    model = build(read_header(model_folder / WEIGHTS_FILE))
    assert model.SerializeToString(deterministic=True) == GRAPH_FILE.read_bytes()


def test_a_header_is_read(tmp_path: Path) -> None:
    header = entry([2, 3], 0, 24)
    assert read_header(written(tmp_path, header, bytes(24))) == {
        "w": Stored((2, 3), 8 + len(header), 24)
    }


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"", 1 << 62),
        (b"{}", 3),
        (b"", 0),
        (b"[]", None),
        (b'{"w": 7}', None),
        (b"\xff\xfe", None),
        (b'{"w": {"dtype": "F32"}}', None),
        (b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}', None),
        (b'{"w": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}', None),
        (entry([2, 3], 0, 28), None),
        (entry([7], 0, 28), None),
        (entry([2, 3], -4, 20), None),
        (entry([2, 3], 24, 0), None),
        (entry([-2, -3], 0, 24), None),
        (entry([1 << 40, 1 << 40], 0, 24), None),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: bytes, length: int | None) -> None:
    with pytest.raises(TextModelError, match=r"made\.safetensors"):
        read_header(written(tmp_path, header, bytes(24) if header.endswith(b"}}") else b"", length))
