"""Trains the ranking model: python -m services.ranker.training.train --log F --out DIR --seed N"""

import os
from pathlib import Path

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from services.ranker.training.export import export
from services.ranker.training.fit import TrainingConfig, train
from services.ranker.training.log import LogError, read_log


@click.command()
@click.option("--log", "logs", multiple=True, required=True, type=click.Path(path_type=Path),
              help="Training log; may be given several times.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path),
              help="Folder of the new model version; its name is the version's name.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of weights and batches.")
@click.option("--epochs", default=TrainingConfig().epochs, show_default=True, help="At most.")
def main(logs: tuple[Path, ...], out: Path, seed: int, epochs: int) -> None:
    """Train a ranking model on a log and export it with its card."""
    console = Console(stderr=True)
    try:
        examples, contents = read_log(logs)
        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        quiet = bool(os.environ.get("CI"))
        with Progress(*columns, console=console, disable=quiet) as progress:
            config = TrainingConfig(seed=seed, epochs=epochs)
            trained = train(examples, contents, config, progress)
        manifest = export(trained, config.seed, logs, out)
    except LogError as error:
        raise click.ClickException(str(error)) from error
    console.print(f"{out}: {', '.join(head.name.lower() for head in manifest.trained_heads)}")


if __name__ == "__main__":
    main()
