"""`heliograph up` and `heliograph migrate`."""

import signal
import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import ParamSpec

import click
from pydantic import ValidationError

from services.cli.launch import database_server, prepare_database, services
from services.runtime.configuration import explain
from services.runtime.postgres import PostgresError
from services.runtime.settings import ConfigurationError, RuntimeSettings

P = ParamSpec("P")


def told_plainly(command: Callable[P, None]) -> Callable[P, None]:
    """Turn what an operator can mend into one clear message and exit status 1; make SIGTERM unwind
    as Ctrl-C does."""

    @wraps(command)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> None:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            command(*arguments, **options)
        except ValidationError as error:
            raise click.ClickException("\n".join(explain(error))) from None
        except (ConfigurationError, PostgresError) as error:
            raise click.ClickException(str(error)) from None

    return wrapped


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def serve_until_stopped(admin_url: str, settings: RuntimeSettings) -> None:
    """The services on the wall clock until Ctrl-C, or until one of them ends (exit status 1)."""
    try:
        with services(admin_url, settings) as runner:
            click.echo(how_to_call(settings))
            runner.wait()
            raise ConfigurationError(
                "a service has ended, so all were stopped; see its lines above"
            )
    except KeyboardInterrupt:
        click.echo("stopped")


def how_to_call(settings: RuntimeSettings) -> str:
    """What to type next."""
    candidate, policy = settings.candidate.target, settings.policy.target
    return f"""
Heliograph is serving (Ctrl-C stops it):
  candidate {candidate}   ranker {settings.ranker.target}   policy {policy}
  copygen {settings.copygen.target}   pacer {settings.pacer.target}
Try, in another terminal:
  .venv/bin/heliograph explain 1                                    why user 1 got what they got
  .venv/bin/heliograph config                                       every setting in force
  grpcurl -plaintext {candidate} list                         what candidate offers
  grpcurl -plaintext -d '{{"item_id": "50"}}' {candidate} \\
      heliograph.candidate.v1alpha1.CandidateService/RecommendUsersToItem
"""


@click.command()
@told_plainly
def up() -> None:
    """Start Postgres and the five services on the wall clock, until Ctrl-C. Data is kept."""
    settings = RuntimeSettings()
    with database_server(settings) as url:
        prepare_database(url, settings)
        serve_until_stopped(url, settings)


@click.command()
@told_plainly
def migrate() -> None:
    """Bring the database to the newest schemas: roles, one schema per service, migrations."""
    settings = RuntimeSettings()
    if not settings.database_url.get_secret_value():
        raise ConfigurationError(
            "set HELIOGRAPH_DATABASE_URL; the embedded database is migrated by `heliograph up`"
        )
    prepare_database(settings.database_url.get_secret_value(), settings)
    click.echo("the database is up to date", file=sys.stderr)
