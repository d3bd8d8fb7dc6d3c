"""Channel adapters, and which one carries each channel."""

from collections.abc import Mapping
from pathlib import Path

from services.pacer.adapters.file import FileAdapter
from services.pacer.adapters.inbox import InboxAdapter
from services.pacer.messages import Adapter
from services.pacer.settings import PacerSettings
from services.pacer.store.inbox import InboxStore


def by_channel(
    settings: PacerSettings, store: InboxStore, state_dir: Path
) -> Mapping[str, Adapter]:
    """The adapter of each channel: `push`, `email`, `in_app`."""
    adapters: dict[str, Adapter] = {
        "inbox": InboxAdapter(store),
        "file": FileAdapter(
            settings.file_path or state_dir / "deliveries.jsonl", settings.file_remembered
        ),
    }
    return {
        "push": adapters[settings.push_adapter],
        "email": adapters[settings.email_adapter],
        "in_app": adapters[settings.in_app_adapter],
    }
