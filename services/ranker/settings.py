"""What the ranker is configured by."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ServiceSettings


class RankerSettings(ServiceSettings):
    """Settings with the prefix HELIOGRAPH_RANKER_."""

    model_config = SettingsConfigDict(
        env_prefix="HELIOGRAPH_RANKER_", protected_namespaces=("settings_",)
    )

    model_dir: Path = Path(__file__).parent / "models"
    """The model registry: one folder for each version, as training writes it."""
    backend: Literal["inprocess", "triton"] = "inprocess"
    """Where models run: in this process on its CPU, or in a Triton server."""
    triton_address: str = "127.0.0.1:8001"
    """Host and port of Triton's gRPC endpoint; it serves what `deploy.triton.render` made."""
    triton_tls: bool = False
    """Call Triton by TLS, with this service's certificate (HELIOGRAPH_TLS_…) as the client's."""
    triton_patience: timedelta = Field(default=timedelta(seconds=2), gt=timedelta(0))
    """How long a call without a deadline of its own waits for Triton."""
    intra_op_threads: int = Field(default=1, ge=1, le=64)
    """Threads that ONNX Runtime uses within one run: more make a lone large call faster, and score
    fewer events a second."""
    parallel_runs: int = Field(default=2, ge=1, le=64)
    """Runs that go on at once; further ones wait."""
    unload_after: timedelta = Field(default=timedelta(minutes=10), ge=timedelta(0))
    """How long a model version stays loaded that doesn't serve and that no experiment asks for."""
    cached_states: int = Field(default=50_000, ge=0)
    """Users' feature states kept in memory (about 5 kB each), least recently used leave first."""
    follow_every: timedelta = Field(default=timedelta(seconds=2), gt=timedelta(0))
    """How often the feed, the items and the promoted version are read on."""
    retention: timedelta = Field(default=timedelta(days=14), ge=timedelta(days=4))
    """How long snapshots and what became of decisions are kept: longer than the longest label
    window (3 days), and as long as exports need."""
    clean_every: timedelta = Field(default=timedelta(hours=6), gt=timedelta(0))
    """How often days past their retention are dropped."""
