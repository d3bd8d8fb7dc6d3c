"""Scenarios of recommendations."""

from heliograph.candidate.v1alpha1 import scenarios_pb2

from services.candidate.handlers.parts import Calls, Context
from services.runtime import paging


class ScenarioCalls(Calls):
    """PutScenario, DeleteScenario, ListScenarios."""

    async def PutScenario(
        self, request: scenarios_pb2.PutScenarioRequest, context: Context
    ) -> scenarios_pb2.PutScenarioResponse:
        stored = await self.parts.scenarios.put(
            request.scenario, request.request_id, self.parts.clock.now()
        )
        return scenarios_pb2.PutScenarioResponse(scenario=stored)

    async def DeleteScenario(
        self, request: scenarios_pb2.DeleteScenarioRequest, context: Context
    ) -> scenarios_pb2.DeleteScenarioResponse:
        deleted = await self.parts.scenarios.delete(
            request.name, request.request_id, self.parts.clock.now()
        )
        return scenarios_pb2.DeleteScenarioResponse(scenario=deleted)

    async def ListScenarios(
        self, request: scenarios_pb2.ListScenariosRequest, context: Context
    ) -> scenarios_pb2.ListScenariosResponse:
        position = paging.decode(request.page_token, [str])
        size = paging.page_size(request.page_size)
        after = "" if position is None else str(position[0])
        found = await self.parts.scenarios.page(after, size + 1)
        token = paging.encode([found[size - 1].name]) if len(found) > size else ""
        return scenarios_pb2.ListScenariosResponse(scenarios=found[:size], next_page_token=token)
