"""The versioned configuration of experiments as stored."""

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from services.policy.experiments import Experiment, Experiments, Group
from services.runtime.database import UnitOfWork, load_queries
from services.runtime.errors import Aborted

CONSTRAINTS = {
    "experiment_versions_pkey": lambda: Aborted("a concurrent change of experiments was first"),
}
"""What the violation of a constraint means to a caller."""

_queries = load_queries(Path(__file__).with_name("configuration.sql"))


class ExperimentStore:
    """Reads and writes configurations; versions never change, so the newest is kept in memory."""

    def __init__(self) -> None:
        self._newest = Experiments()

    async def current(self, work: UnitOfWork) -> Experiments:
        """The configuration in force; version 0 without experiments when none was ever put."""
        for row in await work.rows(_queries.newest_experiment_version):
            return await self._at(work, row.version)
        return Experiments()

    async def _at(self, work: UnitOfWork, version: int) -> Experiments:
        newest = self._newest
        if newest.version != version:
            (row,) = await work.rows(_queries.experiment_version, {"version": version})
            newest = Experiments(version, map(_experiment, row.experiments))
            self._newest = newest
        return newest

    async def append(self, work: UnitOfWork, experiments: Experiments, now: datetime) -> None:
        """Store the next version. Raises Aborted when a concurrent change was first."""
        stored = [asdict(one) for one in experiments.by_name.values()]
        columns = {
            "version": experiments.version,
            "experiments": json.dumps(stored),
            "now": now,
        }
        await work.execute(_queries.insert_experiment_version, columns)


def _experiment(stored: dict[str, Any]) -> Experiment:
    buckets = stored["buckets"]
    return Experiment(
        name=stored["name"],
        layer=stored["layer"],
        share=stored["share"],
        groups=tuple(Group(**group) for group in stored["groups"]),
        active=stored["active"],
        buckets=None if buckets is None else (buckets[0], buckets[1]),
    )
