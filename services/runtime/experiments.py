"""Which experiment groups a user is in: a pure function over a versioned configuration.

Layers as in Tang et al., "Overlapping Experiment Infrastructure" (KDD 2010): within a layer a
user is in at most one experiment, for experiments own disjoint ranges of its buckets; layers have
their own salts, so that membership in one says nothing about another. A parameter belongs to one
layer, so the overrides of a user's groups never contradict each other.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from services.runtime.hashing import unit_hash

Value = str | int | float | bool


class ExperimentError(ValueError):
    """A configuration that cannot be; says what to change."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group of an experiment: its share is its weight over the sum of the weights."""

    name: str
    weight: float = 1.0
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """What its users get instead of the defaults."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Splits the users of buckets `first_bucket` to `end_bucket` (exclusive) of a layer."""

    name: str
    layer: str
    salt: str
    first_bucket: int
    end_bucket: int
    groups: tuple[Group, ...]

    def group_of(self, user_id: str) -> Group:
        """The group of a user whose bucket the experiment owns."""
        mark = unit_hash(self.salt, user_id) * math.fsum(group.weight for group in self.groups)
        taken = [group for group in self.groups if group.weight > 0]
        for group in taken:
            mark -= group.weight
            if mark < 0:
                return group
        return taken[-1]


@dataclass(frozen=True, slots=True)
class Layer:
    """Divides all users into equal buckets by its own salt."""

    name: str
    salt: str
    buckets: int = 1000

    def bucket_of(self, user_id: str) -> int:
        """Bucket of a user, 0 to `buckets` - 1."""
        return int(unit_hash(self.salt, user_id) * self.buckets)


@dataclass(frozen=True, slots=True)
class ExperimentConfig:
    """All layers and experiments of one version; checked when made. Raises ExperimentError."""

    version: int
    layers: tuple[Layer, ...] = ()
    experiments: tuple[Experiment, ...] = ()

    def __post_init__(self) -> None:
        _require_unique("layer", (layer.name for layer in self.layers))
        _require_unique("salt of a layer or experiment", self._salts())
        _require_unique("experiment", (experiment.name for experiment in self.experiments))
        layers = {layer.name: layer for layer in self.layers}
        for layer in self.layers:
            if layer.buckets < 1:
                raise ExperimentError(f"layer {layer.name}: buckets must be 1 or more")
        for experiment in self.experiments:
            if experiment.layer not in layers:
                raise ExperimentError(f"{experiment.name}: unknown layer {experiment.layer}")
            _check_experiment(experiment, layers[experiment.layer])
        self._check_disjoint()
        self._check_parameters()

    def _salts(self) -> Iterable[str]:
        layers = [layer.salt for layer in self.layers]
        return layers + [experiment.salt for experiment in self.experiments]

    def _check_disjoint(self) -> None:
        ordered = sorted(self.experiments, key=lambda one: (one.layer, one.first_bucket))
        for before, after in pairwise(ordered):
            if before.layer == after.layer and after.first_bucket < before.end_bucket:
                raise ExperimentError(
                    f"{before.name} and {after.name} share buckets of layer {before.layer}"
                )

    def _check_parameters(self) -> None:
        owners: dict[str, str] = {}
        for experiment in self.experiments:
            for group in experiment.groups:
                for parameter in group.parameters:
                    owner = owners.setdefault(parameter, experiment.layer)
                    if owner != experiment.layer:
                        raise ExperimentError(
                            f"parameter {parameter} is set in the layers {owner} and "
                            f"{experiment.layer}; one layer may own it"
                        )


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the configuration of one version means for one user."""

    version: int
    groups: Mapping[str, str]
    """Group by experiment; experiments that the user is not in are missing."""
    parameters: Mapping[str, Value]
    """The overrides of all these groups."""


def assign(config: ExperimentConfig, user_id: str) -> Assignment:
    """The user's groups and parameters; depends on nothing but the arguments.

    Changing one experiment or layer moves no user of the others.
    """
    buckets = {layer.name: layer.bucket_of(user_id) for layer in config.layers}
    groups: dict[str, str] = {}
    parameters: dict[str, Value] = {}
    for experiment in config.experiments:
        if experiment.first_bucket <= buckets[experiment.layer] < experiment.end_bucket:
            group = experiment.group_of(user_id)
            groups[experiment.name] = group.name
            parameters.update(group.parameters)
    return Assignment(config.version, groups, parameters)


def _check_experiment(experiment: Experiment, layer: Layer) -> None:
    name = experiment.name
    if not 0 <= experiment.first_bucket < experiment.end_bucket <= layer.buckets:
        raise ExperimentError(
            f"{name}: buckets {experiment.first_bucket} to {experiment.end_bucket} are not a "
            f"range within the {layer.buckets} of layer {layer.name}"
        )
    _require_unique(f"group of {name}", (group.name for group in experiment.groups))
    weights = [group.weight for group in experiment.groups]
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ExperimentError(f"{name}: weights must be finite, 0 or more, and not all 0")


def _require_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            raise ExperimentError(f"{what} {name!r} is empty or used twice")
        seen.add(name)
