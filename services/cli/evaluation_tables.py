"""The tables of `heliograph ranker evaluate`."""

from collections.abc import Mapping

import numpy as np
from rich import box
from rich.table import Table

from services.ranker.training.evaluation import (
    LEAST_POSITIVES,
    METRICS,
    Estimate,
    Evaluation,
)

_METRIC_TITLES = ("AUC", "log loss", "entropy", "Σp/Σy", "slope", "ECE", "NDCG")
"""Of METRICS, in order."""


def evaluation_table(found: Evaluation, rows: str) -> Table:
    """A line for each head and group: value and 95 % interval of each metric, then whether it is
    calibrated, – where there are too few positives to say."""
    title = f"{found.version} on {rows}, 95 % intervals by redrawing users"
    table = _table(title, "positives", *_METRIC_TITLES, "calibrated")
    for head, groups in found.heads.items():
        for group in groups:
            figures = {name: each.estimate() for name, each in group.metrics.items()}
            judged = group.as_json()["calibrated"]
            table.add_row(
                head.name.lower() if group.name == "all" else "",
                group.name,
                f"{group.positives:,}",
                *_cells(figures),
                "–" if judged is None else ("yes" if judged else "no"),
            )
        table.add_section()
    table.caption = (
        "entropy: log loss over that of the base rate; "
        f"pooled: the segments with fewer than {LEAST_POSITIVES} positives, together"
    )
    return table


def comparison_table(mine: Evaluation, other: Evaluation) -> Table:
    """A line for each head and group: metric of the first model less that of the second."""
    table = _table(f"{mine.version} less {other.version}, paired by user", *_METRIC_TITLES)
    for head, groups in mine.less(other).items():
        for name, figures in groups:
            table.add_row(head.name.lower() if name == "all" else "", name, *_cells(figures))
        table.add_section()
    return table


def _table(title: str, *names: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("Head", no_wrap=True)
    table.add_column("Segment", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(figures: Mapping[str, Estimate]) -> list[str]:
    return [_cell(figures[name]) for name in METRICS]


def _cell(found: Estimate) -> str:
    if not np.isfinite(found.value):
        return "–"
    if not np.isfinite(found.low):
        return f"{found.value:.3f}"
    return f"{found.value:.3f}\n{_short(found.low)}…{_short(found.high)}"


def _short(number: float) -> str:
    """Three digits, without a zero before the point."""
    return f"{number:.2f}" if abs(number) >= 1 else f"{number:.3f}".replace("0.", ".", 1)
