"""Scenarios in Postgres, over the built-in ones."""

from datetime import datetime

from heliograph.candidate.v1alpha1 import recommending_pb2, scenarios_pb2

from services.candidate import requests
from services.candidate.messages import digest_of
from services.candidate.questions import Direction
from services.candidate.rotation import QUERIES
from services.candidate.scenarios.applying import Applied, apply, check
from services.candidate.scenarios.builtin import BUILT_IN
from services.runtime.database import Database
from services.runtime.errors import (
    DomainError,
    FailedPrecondition,
    FieldError,
    InvalidArgument,
    NotFound,
)

PUT, DELETE = "PutScenario", "DeleteScenario"


class Scenarios:
    """Stores, removes, lists and applies scenarios. A stored one replaces the built-in one of its
    name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self, scenario: scenarios_pb2.Scenario, request_id: str, now: datetime
    ) -> scenarios_pb2.Scenario:
        """Store or change a scenario. Raises AlreadyExists when the request id was used for
        something else, InvalidArgument for a scenario that could never be used."""
        scenario.ClearField("built_in")
        check(scenario)
        body = scenario.SerializeToString(deterministic=True)
        async with self._database.unit_of_work() as work:
            answer = await requests.answered(work, PUT, request_id, digest_of(body))
            if answer is None:
                await work.execute(QUERIES.put_scenario, {"name": scenario.name, "body": body})
                await requests.keep(work, PUT, request_id, digest_of(body), body, now)
                await work.commit()
        return scenario

    async def delete(self, name: str, request_id: str, now: datetime) -> scenarios_pb2.Scenario:
        """Remove a stored scenario; returns it. Raises NotFound, FailedPrecondition for one that is
        only built in, and AlreadyExists as `put`."""
        digest = digest_of(name.encode())
        async with self._database.unit_of_work() as work:
            body = await requests.answered(work, DELETE, request_id, digest)
            if body is None:
                rows = await work.rows(QUERIES.delete_scenario, {"name": name})
                if not rows:
                    raise _not_stored(name)
                body = bytes(rows[0].body)
                await requests.keep(work, DELETE, request_id, digest, body, now)
                await work.commit()
        return scenarios_pb2.Scenario.FromString(body)

    async def page(self, after: str, count: int) -> list[scenarios_pb2.Scenario]:
        """Scenarios by name, after a name."""
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.list_scenarios, {"after": after, "count": count})
        known = {name: scenario for name, scenario in BUILT_IN.items() if name > after}
        known |= {row.name: scenarios_pb2.Scenario.FromString(row.body) for row in rows}
        return [known[name] for name in sorted(known)[:count]]

    async def applied(
        self,
        given: recommending_pb2.RecommendationParameters,
        direction: Direction,
        subject: str,
    ) -> Applied:
        """The parameters of a request with those of the scenario it names. Raises NotFound, and
        InvalidArgument as `apply` does."""
        if not given.scenario:
            if given.scenario_values:
                problem = "values are given, but no scenario"
                field = FieldError("parameters.scenario_values", problem)
                raise InvalidArgument(problem, reason="UNKNOWN_PLACEHOLDER", fields=[field])
            return Applied(given)
        async with self._database.read() as work:
            rows = await work.rows(QUERIES.get_scenario, {"name": given.scenario})
        scenario = (
            scenarios_pb2.Scenario.FromString(rows[0].body)
            if rows
            else BUILT_IN.get(given.scenario)
        )
        if scenario is None:
            raise _unknown(given.scenario, "parameters.scenario")
        return apply(scenario, given, direction, subject)


def _not_stored(name: str) -> DomainError:
    if name in BUILT_IN:
        problem = f"scenario {name!r} comes with the service; it can be replaced, not deleted"
        fields = [FieldError("name", problem)]
        return FailedPrecondition(problem, reason="BUILT_IN_SCENARIO", fields=fields)
    return _unknown(name, "name")


def _unknown(name: str, path: str) -> NotFound:
    problem = f"there is no scenario {name!r}"
    return NotFound(problem, reason="UNKNOWN_SCENARIO", fields=[FieldError(path, problem)])
