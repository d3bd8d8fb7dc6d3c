"""`heliograph candidate`: fit the model of candidates, and recommend with it, offline."""

from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.candidate.models import (
    TIES,
    CandidateModel,
    Effort,
    FitError,
    FitOptions,
    InputError,
    ModelFolderError,
    Recommendations,
    Side,
    Split,
    aligned,
    fit,
    load,
    read_attributes,
    read_ids,
    read_interactions,
    read_ties,
    save,
)

DAY = 86400.0
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_PATH = click.Path(path_type=Path)


@click.command(name="fit")
@click.option("--interactions", type=_FILE, required=True, help="user_id, item_id, …, Parquet.")
@click.option("--users", type=_FILE, help="user_id and attributes, Parquet.")
@click.option("--items", type=_FILE, help="item_id and content, Parquet.")
@click.option("--ties", type=_FILE, help="user_id and target_id: whom they follow, Parquet.")
@click.option("--out", type=_PATH, required=True, help="Folder for the model.")
@click.option("--horizon-days", type=click.FloatRange(min=0, min_open=True), help="How far ahead.")
@click.option(
    "--split",
    type=click.Choice(["auto", "time", "user"]),
    default="auto",
    show_default=True,
    help="Validation by windows in time, or by the last interactions of each user.",
)
@click.option(
    "--effort",
    type=click.Choice(["full", "quick"]),
    default="full",
    show_default=True,
    help="quick: one fixed model a direction; only weights and calibration are fitted.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same model.")
def fit_command(
    interactions: Path,
    users: Path | None,
    items: Path | None,
    ties: Path | None,
    out: Path,
    horizon_days: float | None,
    split: Split,
    effort: Effort,
    seed: int,
) -> None:
    """Fit both directions, choosing model and hyperparameters by a validation split.

    Columns of the interactions: user_id, item_id, optional timestamp (a timestamp, or seconds
    since 1970) and weight."""
    try:
        user_ids, user_columns = read_attributes(users, "user_id") if users else ([], {})
        item_ids, item_columns = read_attributes(items, "item_id") if items else ([], {})
        tied = read_ids(ties, "user_id") if ties else []
        read = read_interactions(interactions, [*user_ids, *tied], item_ids)
        about_users = aligned(read.user_ids, user_ids, user_columns)
        if ties:
            about_users = {**about_users, TIES: read_ties(ties, read.user_ids)}
        horizon = None if horizon_days is None else horizon_days * DAY
        model = fit(
            read,
            FitOptions(horizon, split, effort, seed),
            about_users,
            aligned(read.item_ids, item_ids, item_columns),
        )
        save(model, out)
    except FitError as error:
        raise click.ClickException(f"{interactions}: {error}") from None
    except (InputError, ModelFolderError, OSError) as error:
        raise click.ClickException(str(error)) from None
    for side, direction in model.directions.items():
        click.echo(f"{side}: {direction.label}")
    click.echo(f"model: {out}")


@click.command()
@click.option("--model", "folder", type=_PATH, required=True, help="A folder that `fit` wrote.")
@click.option("--direction", type=click.Choice(["items", "users"]), required=True)
@click.option("--ids", type=_FILE, required=True, help="user_id (or item_id), Parquet.")
@click.option("--count", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--exclude-seen", is_flag=True, help="Leave out pairs that have interacted.")
@click.option("--out", type=_PATH, required=True, help="Parquet: query id, rank, id, score.")
def recommend(
    folder: Path, direction: Side, ids: Path, count: int, exclude_seen: bool, out: Path
) -> None:
    """Items for users, or users for items, best first.

    `score` is the probability of an interaction within the model's horizon; `rank` counts from 1.
    """
    key = "user_id" if direction == "items" else "item_id"
    try:
        model = load(folder)
        queries = read_ids(ids, key)
        found = model.recommend(direction, queries, count, exclude_seen=exclude_seen)
        out.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_answer(model, direction, queries, found), out)
    except (InputError, ModelFolderError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{len(queries)} queries, {int(found.cold.sum())} without interactions: {out}")


def _answer(
    model: CandidateModel, side: Side, queries: list[str], found: Recommendations
) -> pa.Table:
    places, ranks = np.nonzero(found.rows >= 0)
    names = np.asarray(model.ids(side), dtype=object)
    return pa.table(
        {
            "query_id": pa.array([queries[place] for place in places], pa.string()),
            "rank": pa.array(ranks + 1, pa.int32()),
            "id": pa.array(names[found.rows[places, ranks]].tolist(), pa.string()),
            "score": pa.array(found.relevance[places, ranks], pa.float32()),
        }
    )
