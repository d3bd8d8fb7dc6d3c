"""`heliograph replay` and `heliograph run`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from services.cli.launch import (
    addresses,
    database_server,
    replay_services,
    replay_url,
    require_free_ports,
)
from services.cli.serving import serve_until_stopped, told_plainly
from services.cli.terminal import console
from services.runtime.settings import RuntimeSettings
from simulation.connection import ReplayError
from simulation.download import load
from simulation.movielens import DatasetError, MovieLens
from simulation.replay import ReplayOptions, run
from simulation.report import RichProgress, print_replay, write_json
from simulation.results import ReplayResult

RUN_DAYS = 2
_DEFAULTS = ReplayOptions()
_OPTIONS = (
    click.option(
        "--days", type=int, help=f"Days to replay.  [default: {_DEFAULTS.days}; run: {RUN_DAYS}]"
    ),
    click.option("--users", type=int, help="So many users, drawn by the seed.  [default: all]"),
    click.option(
        "--target",
        default=_DEFAULTS.target,
        show_default=True,
        help="Sends per user and day, over all channels.",
    ),
    click.option("--seed", default=_DEFAULTS.seed, show_default=True, help="Seed of all draws."),
    click.option(
        "--start",
        type=click.DateTime(["%Y-%m-%d"]),
        help=f"First day, UTC.  [default: {_DEFAULTS.start:%Y-%m-%d}; run: so that it ends today]",
    ),
    click.option(
        "--json", "json_file", type=click.Path(path_type=Path), help="Write all figures there."
    ),
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@_with_options
@click.option(
    "--attach", is_flag=True, help="Use services that run already, in simulation mode and fresh."
)
@told_plainly
def replay(attach: bool, json_file: Path | None, **options: Any) -> None:
    """Replay days of MovieLens 100K users and print what was sent and what came of it.

    Starts its own services on a database of its own, which is emptied first."""
    settings = RuntimeSettings()
    data, chosen = _prepared(options, _DEFAULTS.days, _DEFAULTS.start)
    if attach:
        _report(_replayed(addresses(settings), chosen, data, settings), json_file)
        return
    require_free_ports(settings)
    with database_server(settings) as url, replay_services(url, settings) as reached:
        _report(_replayed(reached, chosen, data, settings), json_file)


@click.command(name="run")
@_with_options
@click.option("--once", is_flag=True, help="End after the table instead of serving on.")
@told_plainly
def run_command(once: bool, json_file: Path | None, **options: Any) -> None:
    """The demonstration: replay a few days, print the table, then serve until Ctrl-C.

    Serves on the replay's database, on the wall clock; the next run empties it."""
    settings = RuntimeSettings()
    require_free_ports(settings)
    # What is served on must not be older than the services keep it.
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = options["days"] or RUN_DAYS
    data, chosen = _prepared(options, days, today - timedelta(days=days))
    with database_server(settings) as url:
        with replay_services(url, settings) as reached:
            result = _replayed(reached, chosen, data, settings)
        _report(result, json_file)
        if not once:
            serve_until_stopped(replay_url(url), settings)


def _prepared(
    options: Mapping[str, Any], days: int, start: datetime
) -> tuple[MovieLens, ReplayOptions]:
    """The data, and the options with these defaults of days and start."""
    given: datetime = options["start"] or start
    if options["days"] is not None:
        days = options["days"]
    try:
        chosen = ReplayOptions(**{**options, "days": days, "start": given.replace(tzinfo=UTC)})
        return load(), chosen
    except (ValueError, DatasetError) as error:
        raise click.ClickException(str(error)) from None


def _replayed(
    reached: Mapping[str, str], options: ReplayOptions, data: MovieLens, settings: RuntimeSettings
) -> ReplayResult:
    try:
        with RichProgress() as progress:
            return asyncio.run(run(reached, options, progress, data, settings))
    except ReplayError as error:
        log = settings.state_dir / "services.log"
        raise click.ClickException(f"the replay stopped: {error}\nsee {log}") from None


def _report(result: ReplayResult, json_file: Path | None) -> None:
    print_replay(result, console(markup=True))
    if json_file is not None:
        write_json(result, json_file)
        click.echo(f"figures: {json_file}")
