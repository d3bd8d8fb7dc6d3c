"""`heliograph ranker`: train the ranking model on a log, say how good it is, and halve it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from services.cli.evaluation_tables import comparison_table, evaluation_table
from services.cli.terminal import console
from services.ranker.acceptance import check_folder
from services.ranker.backend import ModelRefused
from services.ranker.features.vocabulary import HEADS, Head
from services.ranker.manifest import HALF_MODEL_FILE, ManifestError, file_hashes, read_manifest
from services.ranker.training.evaluation import RESAMPLES, as_json
from services.ranker.training.evaluation import evaluate as evaluated
from services.ranker.training.log import Examples, LogError, read_log
from services.ranker.training.scoring import judged_rows, score

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_MODEL = click.option(
    "--model", "folder", required=True, type=_FOLDER, help="Folder of a model version."
)
_LOGS = click.option(
    "--log", "logs", multiple=True, required=True, type=_FILE, help="Training log; may be repeated."
)


class Share(click.ParamType[tuple[Head, float]]):
    """HEAD=SHARE, such as push_open=.1."""

    name = "head=share"

    def convert(self, value: Any, _param: Any, _ctx: Any) -> tuple[Head, float]:
        """The head and its share in (0, 1]."""
        head, _, share = str(value).partition("=")
        try:
            chosen, kept = Head[head.upper()], float(share)
        except (KeyError, ValueError):
            heads = ", ".join(head.name.lower() for head in HEADS)
            self.fail(f"{value!r} is not HEAD=SHARE with one of the heads {heads}")
        if not 0 < kept <= 1:
            self.fail(f"{share} is not in (0, 1]")
        return chosen, kept


@click.group()
def ranker() -> None:
    """The ranking model offline: training, evaluation, and the variant for GPUs."""


@ranker.command()
@_LOGS
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the new model version; its name is the version's name.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of weights and batches.")
@click.option("--epochs", type=click.IntRange(1, 1000), help="At most so many.")
@click.option(
    "--negatives",
    "shares",
    multiple=True,
    type=Share(),
    help="Share of a head's negatives to learn from, such as push_open=.1; may be repeated.  "
    "[default: the table of heads]",
)
def train(
    logs: tuple[Path, ...],
    out: Path,
    seed: int,
    epochs: int | None,
    shares: tuple[tuple[Head, float], ...],
) -> None:
    """Train a ranking model on logs and export it with its card.

    The same logs and options give the same model. A run that was stopped or killed goes on where
    it was when the command is given again: its checkpoint stands in the folder until the end."""
    _check_training_packages()
    from services.ranker.training import checkpoint, export, fit

    config = fit.TrainingConfig(seed=seed)
    config = replace(
        config,
        epochs=epochs or config.epochs,
        negatives_kept={**config.negatives_kept, **dict(shares)},
    )
    kept = checkpoint.Checkpoint(
        out / checkpoint.CHECKPOINT_FILE, checkpoint.run_hash(logs, config)
    )
    try:
        examples, contents = read_log(logs)
        if kept.load() is not None:
            click.echo(f"{out}: going on from the checkpoint", err=True)
        with _progress() as progress:
            trained = fit.train(examples, contents, config, progress, kept)
        manifest = export.export(trained, logs, out)
    except (LogError, export.ParityError, OSError) as error:
        raise click.ClickException(str(error)) from None
    kept.remove()
    click.echo(f"{out}: {', '.join(head.name.lower() for head in manifest.trained_heads)}")


@ranker.command()
@_MODEL
@_LOGS
def half(folder: Path, logs: tuple[Path, ...]) -> None:
    """Write model.fp16.onnx beside a model, for GPUs: its transformers in half precision.

    The logs' last rows show that it answers as the model does: logits within 5e-3, else there is no
    file."""
    _check_training_packages()
    from services.ranker.training.export import ParityError
    from services.ranker.training.half import export_half

    try:
        manifest = read_manifest(folder)
        check_folder(manifest, folder)
        difference = export_half(folder, manifest, *read_log(logs))
    except (LogError, ManifestError, ModelRefused, ParityError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{folder / HALF_MODEL_FILE}: logits differ by {difference:.1e} at most")


@ranker.command()
@_MODEL
@_LOGS
@click.option("--against", type=_FOLDER, help="Another model version to compare with, paired.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures.")
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap over users.")
def evaluate(
    folder: Path, logs: tuple[Path, ...], against: Path | None, json_file: Path | None, seed: int
) -> None:
    """How good a model is on logs: per head, overall and per segment, with 95 % intervals.

    On the logs it was trained on, only the held-out rows count; on others, all. Rows weigh as much
    as the inverse of the probability with which they were logged. Segments with fewer than 500
    positives are pooled."""
    try:
        folders = [folder] if against is None else [folder, against]
        manifests = [read_manifest(each) for each in folders]
        examples, contents = read_log(logs)
        rows, part = judged_rows(manifests, logs, examples)
        examples = examples.take(part)
        with _progress() as progress:
            found = [
                evaluated(
                    manifest.version,
                    manifest.trained_heads,
                    examples,
                    score(manifest, each, examples, contents, progress),
                    seed,
                )
                for manifest, each in zip(manifests, folders, strict=True)
            ]
    except (LogError, ManifestError, ModelRefused, OSError) as error:
        raise click.ClickException(str(error)) from None
    what = f"{len(examples):,} {'held-out rows' if rows == 'held-out' else 'rows'}"
    for each in found:
        console().print(evaluation_table(each, what))
    if len(found) > 1:
        console().print(comparison_table(*found))
    if json_file is not None:
        facts = _facts(logs, rows, examples, seed)
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(as_json(facts, *found), indent=2) + "\n")
        click.echo(f"figures: {json_file}")


def _check_training_packages() -> None:
    if find_spec("torch") is None or find_spec("onnx") is None:
        raise click.ClickException("training needs torch and onnx: pip install -e '.[train]'")


def _facts(logs: Sequence[Path], rows: str, examples: Examples, seed: int) -> dict[str, Any]:
    return {
        "logs": file_hashes(logs),
        "rows": rows,
        "row_count": len(examples),
        "user_count": examples.user_count,
        "time": examples.span,
        "seed": seed,
        "resamples": RESAMPLES,
    }


def _progress() -> Progress:
    """A bar on standard error; nothing where that is no terminal."""
    screen = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=screen, disable=not screen.is_terminal)
