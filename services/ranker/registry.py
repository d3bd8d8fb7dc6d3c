"""The model registry: a folder with one folder for each model version."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from services.ranker.manifest import CARD_FILE, Manifest, ManifestError, read_manifest


@dataclass(frozen=True, slots=True)
class Entry:
    """A version that stands in the registry with a readable manifest."""

    manifest: Manifest
    folder: Path

    @property
    def train_time(self) -> datetime:
        """When it was trained, aware."""
        return datetime.fromisoformat(self.manifest.train_time)

    def card(self) -> str:
        """The model card, in Markdown; empty when it has none."""
        path = self.folder / CARD_FILE
        return path.read_text() if path.is_file() else ""


class Registry:
    """Reads the folder anew at each call: versions come while the service runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self) -> list[Entry]:
        """All versions with a readable manifest, newest first."""
        found = []
        for name in self.names():
            try:
                found.append(self.entry(name))
            except ManifestError:
                continue  # PromoteModel says what is wrong with it
        return sorted(found, key=lambda each: (each.train_time, each.manifest.version))[::-1]

    def names(self) -> list[str]:
        """Names of the folders, readable or not."""
        if not self._folder.is_dir():
            return []
        return sorted(path.name for path in self._folder.iterdir() if path.is_dir())

    def entry(self, version: str) -> Entry:
        """One version. Raises KeyError for an unknown name, ManifestError for a broken one."""
        if version not in self.names():  # a listed name can't lead out of the folder
            raise KeyError(version)
        folder = self._folder / version
        return Entry(read_manifest(folder), folder)
