"""The service, or with `--shard I --of N` one shard of its user index."""

import os

import click

from services.candidate.bind import bind
from services.runtime import main


@click.command()
@click.option(
    "--shard", type=click.IntRange(min=0), help="Be this shard of the user index, from 0."
)
@click.option("--of", "count", type=click.IntRange(min=1), help="How many shards there are.")
def run(shard: int | None, count: int | None) -> None:
    """Serve by the environment's settings; the options stand for two of them."""
    if (shard is None) != (count is None):
        raise click.UsageError("give --shard and --of together")
    if shard is not None:
        os.environ["HELIOGRAPH_CANDIDATE_SHARD"] = str(shard)
        os.environ["HELIOGRAPH_CANDIDATE_SHARD_COUNT"] = str(count)
    main("candidate", bind)


run()
