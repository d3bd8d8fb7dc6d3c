"""The `heliograph` command: one group, one module for each command."""

import click

from services.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    places={
        "candidate": "main:candidate",
        "config": "configuration:config",
        "explain": "explaining:explain",
        "migrate": "serving:migrate",
        "ranker": "ranking:ranker",
        "replay": "replaying:replay",
        "run": "replaying:run_command",
        "up": "serving:up",
    },
)
def main() -> None:
    """Decides which notification to send to each user, through which channel, when, in which
    words, or not at all."""


@click.group(
    cls=LazyGroup,
    places={
        "fit": "candidates:fit_command",
        "generate": "generating:generate",
        "recommend": "candidates:recommend",
    },
)
def candidate() -> None:
    """Candidate generation offline: who might want what."""
