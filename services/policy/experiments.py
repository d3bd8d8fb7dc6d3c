"""Experiments as they are put and stored, and what they mean for one user.

The assignment itself is the runtime's; here stand the layers' buckets: an active experiment owns a
range of its layer's 10,000 buckets and keeps it while it runs, so that putting, changing or
stopping another one moves none of its users.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.runtime import experiments as assignment
from services.runtime.experiments import ExperimentConfig, ExperimentError, Layer

BUCKETS = 10_000
DEFAULT_GROUP = "default"
MOST_CAP_PER_DAY = 1000


class LayerFull(ExperimentError):
    """The layer's active experiments would take more than all of it."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group: its weight against the experiment's other groups, and what it changes."""

    name: str
    weight: float
    overrides: Mapping[str, str]
    holdout: bool = False


@dataclass(frozen=True, slots=True)
class Experiment:
    """One stored experiment. `buckets` is its [first, end) in the layer; None while not active."""

    name: str
    layer: str
    share: float
    groups: tuple[Group, ...]
    active: bool
    buckets: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """What all running experiments together mean for one user."""

    version: int
    groups: Mapping[str, str]
    """Group by experiment."""
    model_version: str = ""
    copy_style: str = ""
    cap_per_day: int | None = None
    """Sends a day overall; None: the deployment's."""
    threshold_group: str = DEFAULT_GROUP
    """The experiment group of the cell that sets the user's thresholds."""
    holdout: bool = False


class Experiments:
    """All experiments of one configuration version. Raises ExperimentError when they clash."""

    def __init__(self, version: int = 0, experiments: Iterable[Experiment] = ()) -> None:
        self.version = version
        self.by_name = {experiment.name: experiment for experiment in experiments}
        running = [one for one in self.by_name.values() if one.active]
        self._holdouts = {
            (one.name, group.name) for one in running for group in one.groups if group.holdout
        }
        self._config = ExperimentConfig(
            version,
            tuple(Layer(name, f"layer:{name}", BUCKETS) for name in {one.layer for one in running}),
            tuple(_assignable(one) for one in running),
        )
        self.of_everyone = None if running else Membership(version, {})
        """What they mean for each user where none is running; else it depends on the user."""

    def limiting(self) -> "Experiments":
        """Those alone that may change how many sends a user gets: what they mean for that is the
        same without the others."""
        return Experiments(self.version, filter(_limits, self.by_name.values()))

    def membership(self, user_id: str) -> Membership:
        """Groups and overrides of a user; depends on the configuration and the id alone."""
        if self.of_everyone is not None:
            return self.of_everyone
        assigned = assignment.assign(self._config, user_id)
        values = {key: str(value) for key, value in assigned.parameters.items()}
        cap = values.get("cap_per_day")
        return Membership(
            version=self.version,
            groups=assigned.groups,
            model_version=values.get("model_version", ""),
            copy_style=values.get("copy_style", ""),
            cap_per_day=None if cap is None else int(cap),
            threshold_group=values.get("threshold_group", "") or DEFAULT_GROUP,
            holdout=any(pair in self._holdouts for pair in assigned.groups.items()),
        )

    def with_put(self, experiment: Experiment) -> "Experiments":
        """The next version, with one experiment added or changed.

        Raises LayerFull when its layer has no room, ExperimentError when it clashes otherwise.
        """
        _check_overrides(experiment)
        placed = replace(experiment, buckets=None)
        others = [one for name, one in self.by_name.items() if name != experiment.name]
        if experiment.active:
            kept = self.by_name.get(experiment.name)
            before = kept.buckets if kept and kept.layer == experiment.layer else None
            placed = replace(experiment, buckets=_free_range(experiment, others, before))
        return Experiments(self.version + 1, [*others, placed])


def _free_range(
    experiment: Experiment, others: Sequence[Experiment], before: tuple[int, int] | None
) -> tuple[int, int]:
    """Buckets for an experiment: where it was if it still fits there, else the first that do."""
    neighbours = [one for one in others if one.active and one.layer == experiment.layer]
    shares = math.fsum([experiment.share, *(one.share for one in neighbours)])
    if shares > 1 + 1e-9:
        raise LayerFull(
            f"layer {experiment.layer}: the shares of its active experiments add up to "
            f"{shares:.4g}, more than 1"
        )
    size = max(1, int(experiment.share * BUCKETS + 1e-6))
    taken = sorted(one.buckets for one in neighbours if one.buckets is not None)
    starts = [0, *(end for _, end in taken)]
    if before is not None:
        starts.insert(0, before[0])
    for start in starts:
        end = start + size
        if end <= BUCKETS and all(end <= first or last <= start for first, last in taken):
            return start, end
    raise LayerFull(
        f"layer {experiment.layer} has no {size} of {BUCKETS} buckets in one piece; "
        "stop an experiment of the layer or take a smaller share"
    )


def _check_overrides(experiment: Experiment) -> None:
    for group in experiment.groups:
        cap = group.overrides.get("cap_per_day")
        if cap is not None and not (
            cap.isascii() and cap.isdigit() and int(cap) <= MOST_CAP_PER_DAY
        ):
            raise ExperimentError(
                f"{experiment.name}: cap_per_day of group {group.name} must be a whole number "
                f"from 0 to {MOST_CAP_PER_DAY}, not {cap!r}"
            )


def _limits(experiment: Experiment) -> bool:
    return experiment.active and any(
        group.holdout or "cap_per_day" in group.overrides for group in experiment.groups
    )


def _assignable(experiment: Experiment) -> assignment.Experiment:
    first, end = experiment.buckets or (0, 0)
    groups = tuple(
        assignment.Group(group.name, group.weight, dict(group.overrides))
        for group in experiment.groups
    )
    return assignment.Experiment(
        experiment.name, experiment.layer, f"experiment:{experiment.name}", first, end, groups
    )
