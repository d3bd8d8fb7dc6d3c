"""The replay's tables for people, its progress bar, and its JSON for programs."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from simulation.replay import NATURE
from simulation.results import DayResult, OpenRates, ReplayResult

LEAST_WIDTH = 100
ARM_ORDER = ("policy", "random_send", "greedy_send", "greedy_no_send", "holdout", "unknown")


class RichProgress:
    """A progress bar on the terminal; use as a context."""

    def __init__(self, console: Console | None = None) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )

    def begin(self, name: str, total: int) -> None:
        """A new line with its own bar."""
        self._bar.add_task(name, total=total)

    def advance(self) -> None:
        """One more step of the newest line."""
        self._bar.advance(self._bar.task_ids[-1])

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


class NoProgress:
    """Shows nothing."""

    def begin(self, name: str, total: int) -> None:
        """Nothing to show."""

    def advance(self) -> None:
        """Nothing to show."""


def write_json(result: ReplayResult, path: Path) -> None:
    """Write all figures of a replay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result.as_json(), indent=2) + "\n")


def print_replay(result: ReplayResult, console: Console | None = None) -> None:
    """Print the tables of a replay."""
    if console is None:
        console = Console(width=max(Console().width, LEAST_WIDTH))
    console.print(Group(*_parts(result)))


def _parts(result: ReplayResult) -> Iterable[RenderableType]:
    told = f"{result.users:,} users, {result.items:,} films, {result.interactions:,} past ratings"
    yield f"\n[bold]Heliograph replay[/bold]: {told}"
    for day in result.days:
        yield f"\n[bold]{day.day}[/bold]  ({day.wall_s:.1f} s)"
        yield _sources_table(day)
        yield _sent_table(day)
        yield _volume_table(day)
        yield _opens_table(day.opens_by_channel | {"all": day.opens})
    yield "\n[bold]All days[/bold]"
    yield _opens_table({"all": result.opens})
    for lift in result.lifts:
        name = lift.baseline.replace("_", "-")
        span = f"95 % interval {lift.low:.2f} to {lift.high:.2f}, redrawing users"
        yield f"{lift.value:.2f} times the open rate of the {name} baseline ({span})"
    yield "\n[bold]Wall time in seconds[/bold]"
    yield _wall_table(result)
    for message in result.messages:
        words = f"{message.title}: {message.body}" if message.body else message.title
        yield f"User {message.user_id} opened ({message.channel}): [italic]{escape(words)}[/italic]"
    yield Panel(" ".join(NATURE.splitlines()), border_style="dim", expand=False)


def _table(first: str, *columns: str) -> Table:
    """Text on the left, then numbers."""
    table = Table(box=box.SIMPLE, padding=(0, 1))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _sources_table(day: DayResult) -> Table:
    table = _table("Candidates", "proposed", "accepted", "dropped")
    for source, count in day.sources.items():
        row = (count.proposed, count.accepted, count.dropped)
        table.add_row(source, *(f"{number:,}" for number in row))
    return table


def _sent_table(day: DayResult) -> Table:
    """Decisions by arm, and those of them that sent by channel."""
    arms = [arm for arm in ARM_ORDER if arm in day.decided_by_arm]
    table = _table("Decisions", *arms, "all")
    decided = [day.decided_by_arm[arm] for arm in arms]
    table.add_row("decided", *(f"{n:,}" for n in decided), f"{day.decided:,}")
    for channel, counts in day.sent.items():
        numbers = [counts.get(arm, 0) for arm in arms]
        total = f"{sum(counts.values()):,}"
        table.add_row(f"sent by {channel}", *(f"{n:,}" for n in numbers), total)
    return table


def _opens_table(groups: dict[str, OpenRates]) -> Table:
    table = _table(
        "Opens", "sent", "opened", "dismissed", "turned off", "rate", "95 %", "random", "popular"
    )
    for name, opens in groups.items():
        numbers = (opens.sent, opens.opened, opens.dismissed, opens.disabled)
        table.add_row(
            name,
            *(f"{number:,}" for number in numbers),
            f"{opens.rate.value:.1%}",
            f"{opens.rate.low:.1%}–{opens.rate.high:.1%}",
            f"{opens.random_item:.1%}",
            f"{opens.most_popular:.1%}",
        )
    return table


def _volume_table(day: DayResult) -> Table:
    table = _table("Volume", "channel", "sent", "target", "off by", "threshold")
    for cell in day.volume:
        table.add_row(
            cell.segment,
            cell.channel,
            f"{cell.sent:,}",
            "–" if cell.target is None else f"{cell.target:,.1f}",
            f"{cell.sent / cell.target - 1:+.0%}" if cell.target else "–",
            "closed" if cell.target == 0 else f"{cell.threshold:.3f}",
        )
    table.add_section()
    error = day.volume_error
    sent = sum(cell.sent for cell in day.volume if cell.target is not None)
    target = sum(cell.target or 0.0 for cell in day.volume)
    shown = "–" if error is None else f"{error:+.0%}"
    table.add_row("with a target", "", f"{sent:,}", f"{target:,.1f}", shown, "")
    return table


def _wall_table(result: ReplayResult) -> Table:
    days = result.days
    table = _table("stage", "before", *(day.day[5:] for day in days))
    for stage, seconds in result.setup.items():
        table.add_row(stage, f"{seconds:.2f}", *("" for _ in days))
    table.add_section()
    stages = sorted({stage for day in days for stage in day.stages})
    for stage in stages:
        table.add_row(stage, "", *(f"{day.stages.get(stage, 0.0):.2f}" for day in days))
    table.add_section()
    total = sum(result.setup.values())
    table.add_row("all", f"{total:.2f}", *(f"{day.wall_s:.2f}" for day in days))
    return table
