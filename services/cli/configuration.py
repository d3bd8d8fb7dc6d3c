"""`heliograph config`: the settings in force."""

import json
from dataclasses import asdict
from importlib import import_module

import click
from pydantic import ValidationError
from pydantic_settings import BaseSettings
from rich.table import Table

from services.cli.terminal import console
from services.runtime.configuration import explain, settings_in_force
from services.runtime.settings import SERVICE_NAMES, RuntimeSettings


def service_settings(name: str) -> BaseSettings:
    """The own settings of a service, e.g. PolicySettings of services.policy.settings."""
    module = import_module(f"services.{name}.settings")
    kind = getattr(module, f"{name.capitalize()}Settings")
    settings: BaseSettings = kind()
    return settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def config(as_json: bool) -> None:
    """Show every setting in force: its variable, value, where the value is from, what it means.

    Secrets are hidden."""
    try:
        groups = [RuntimeSettings(), *(service_settings(name) for name in SERVICE_NAMES)]
    except ValidationError as error:
        raise click.ClickException("\n".join(explain(error))) from None
    lines = settings_in_force(*groups)
    if as_json:
        click.echo(json.dumps([asdict(line) for line in lines], indent=2))
        return
    table = Table("Variable", "Value", "From", "Meaning", show_lines=False)
    for line in lines:
        table.add_row(line.variable, line.value, line.source, line.description)
    console().print(table)
