"""What every bench writes: a table for people and one JSON form for programs."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

LEAST_WIDTH = 110
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure with its goal. `ci` is its 95 % interval; None: it has none."""

    value: float
    unit: str
    goal: float
    better: Literal["higher", "lower"]
    ci: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        """The value is at the goal or on its better side."""
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "value": self.value,
            "unit": self.unit,
            "ci": None if self.ci is None else list(self.ci),
            "goal": self.goal,
            "better": self.better,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The result of one bench. `packages`: those whose versions matter to the figures."""

    bench: str
    metrics: Mapping[str, Metric]
    series: Mapping[str, Any]
    packages: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """The form that all benches share."""
        return {
            "bench": self.bench,
            "commit": _BEGUN_AT,
            "machine": machine(self.packages),
            "metrics": {name: metric.as_json() for name, metric in self.metrics.items()},
            "series": dict(self.series),
        }

    def write(self, path: Path) -> None:
        """Write the JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n")

    def print(self, console: Console | None = None) -> None:
        """Print the metrics as a table."""
        table = Table(box=box.SIMPLE)
        for column in (f"bench.{self.bench}", "value", "95 %", "unit", "goal", "met"):
            table.add_column(column, no_wrap=True)
        for name, metric in self.metrics.items():
            span = "" if metric.ci is None else f"{metric.ci[0]:.3g} to {metric.ci[1]:.3g}"
            sign = "≥" if metric.better == "higher" else "≤"
            met = "yes" if metric.met else "[red]no[/red]"
            goal = f"{sign} {metric.goal:g}"
            table.add_row(name, f"{metric.value:.4g}", span, metric.unit, goal, met)
        (console or Console(width=max(Console().width, LEAST_WIDTH))).print(table)


def commit() -> str:
    """The checked-out commit, with `+` when files differ from it; `unknown` outside git."""
    if (found := _git("rev-parse", "HEAD")) is None:
        return "unknown"
    return found + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """CPU, cores that this process may use, Python, and versions of packages."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


_BEGUN_AT = commit()
"""Of the code that runs: by the end of a long bench another may be checked out."""
