"""The model card, in Markdown, from a manifest."""

from datetime import timedelta

from services.ranker.manifest import Manifest
from services.ranker.training.split import TUNING_USERS
from services.runtime.durations import in_words

_METRICS = ("auc", "log_loss", "normalised_entropy", "calibration", "slope", "ece", "ndcg")


def card(manifest: Manifest) -> str:
    """What the model is, what it was trained on, how good it is, and where it ends."""
    log = manifest.log
    untrained = [head.name.lower() for head in manifest.heads if head not in manifest.trained_heads]
    figures = [
        f"| {name.lower()} | {log['positives'][name]:,} | "
        + " | ".join(_figure(found[metric]) for metric in _METRICS)
        + " |"
        for name, found in manifest.metrics.items()
    ]
    lines = [
        f"# Ranking model {manifest.version}",
        "",
        "Predicts, for each user and event, the probability of what the user may do after the",
        f"notification. {manifest.parameters:,} parameters; seed {manifest.seed}; features "
        f"`{manifest.schema_hash}`.",
        "",
        "## Heads",
        f"Trained: {', '.join(head.name.lower() for head in manifest.trained_heads)}.",
        "",
        f"Untrained: {', '.join(untrained) or 'none'}. The log has too few labels for them "
        "(fewer than 100 positives in the training part); they answer the rate seen in the log, 0 "
        "where there is none, and must carry no weight in the utility.",
        "",
        "## Data",
        *(f"`{name}` (SHA-256 `{digest}`)." for name, digest in log["files"].items()),
        "",
        f"{log['rows']:,} decisions of {log['users']:,} users, {log['time'][0]} to "
        f"{log['time'][1]}: {log['train_rows']:,} to learn from, then an embargo of "
        f"{in_words(timedelta(days=log['embargo_days']))} (the longest label window), then "
        f"{log['tuning_rows']:,} of one in {TUNING_USERS} users to stop and calibrate by, and "
        f"{log['validation_rows']:,} of the others to measure on.",
        "",
        "Share of negatives: how many of its negatives a head learned from; its scores are",
        "corrected for that.",
        "",
        "| head | labelled rows | positives | share of negatives |",
        "| --- | --- | --- | --- |",
        *(
            f"| {head.name.lower()} | {log['labels'][head.name]:,} | "
            f"{log['positives'][head.name]:,} | {_share(log['negatives_kept'].get(head.name))} |"
            for head in manifest.heads
        ),
        "",
        "## Figures",
        "On the validation part, with 95 % intervals of a bootstrap over users. Normalised entropy",
        "is log loss over that of the constant base rate; calibration is Σ predicted / Σ observed.",
        "Slope is that of the labels on the logits (1 is right), ECE the calibration error over",
        "15 bins less what chance adds, NDCG the ranking of each user's rows. All are weighted by",
        "the inverse of the probability with which a row was logged. Positives are those of the",
        "whole log.",
        "",
        "| head | positives | AUC | log loss | normalised entropy | calibration | slope | ECE "
        "| NDCG |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *figures,
        "",
        "## Limits",
        "- Item content is hashed attributes and a random projection of the text's embedding.",
        "- An event is known by its four best items, its history by the very first.",
        "- Validation users also stand in the training part at earlier times; users the model has",
        "  never seen are not measured apart.",
        "- It is as good as its log: where the log was made by a replay of ratings, an open means",
        "  that the user rated the item high, not that a person tapped a notification.",
        "",
        f"Weights SHA-256 `{manifest.weights_sha256}`.",
    ]
    return "\n".join(lines) + "\n"


def _figure(estimate: list[float | None]) -> str:
    value, low, high = estimate
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _share(kept: float | None) -> str:
    return "–" if kept is None else f"{kept:g}"
