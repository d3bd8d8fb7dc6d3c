"""The `heliograph` command: one group, one module for each command."""

import click

from services.cli.candidates import candidate
from services.cli.configuration import config
from services.cli.explaining import explain
from services.cli.generating import generate
from services.cli.ranking import ranker
from services.cli.replaying import replay, run_command
from services.cli.serving import migrate, up


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Decides which notification to send to each user, through which channel, when, in which
    words, or not at all."""


candidate.add_command(generate)
for command in (up, run_command, replay, migrate, config, explain, candidate, ranker):
    main.add_command(command)
