"""The model's files: each way in which they can be wrong is refused before anything reads them."""

from pathlib import Path

import pytest

from services.candidate.text import TextEncoder, TextModelError, weights
from services.candidate.text.weights import VOCABULARY_FILE, WEIGHTS_FILE


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model's files, to spoil."""
    for name in (WEIGHTS_FILE, VOCABULARY_FILE):
        (tmp_path / name).write_bytes((model_folder / name).read_bytes())
    return tmp_path


def test_a_missing_model_says_how_to_have_it(tmp_path: Path) -> None:
    with pytest.raises(TextModelError, match=r"can't be read: No such file.*`make models`"):
        TextEncoder(tmp_path / "nothing", threads=1)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, VOCABULARY_FILE])
def test_a_file_cut_short_is_refused(copy: Path, name: str) -> None:
    with (copy / name).open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(TextModelError, match=rf"{name}: 1,000 bytes instead of .* put .* there"):
        TextEncoder(copy, threads=1)


@pytest.mark.parametrize("place", [0, 3000, -1], ids=["header length", "header", "weights"])
def test_altered_weights_are_refused(copy: Path, place: int) -> None:
    with (copy / WEIGHTS_FILE).open("r+b") as file:
        file.seek(place, 2 if place < 0 else 0)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(TextModelError, match=f"{WEIGHTS_FILE}: altered"):
        TextEncoder(copy, threads=1)


def test_a_folder_that_is_there_is_checked_not_fetched_over(copy: Path) -> None:
    weights.fetch(copy)
    (copy / VOCABULARY_FILE).unlink()
    with pytest.raises(TextModelError, match=f"{VOCABULARY_FILE}: can't be read.*remove"):
        weights.fetch(copy)


def test_the_fetch_command_tells_what_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HELIOGRAPH_MODEL_DIR", str(tmp_path / "file"))
    assert weights.main() == 1
    told = capsys.readouterr().err
    assert "items are found without their text" in told
    assert f"{tmp_path / 'file' / weights.MODEL} can't be written" in told
