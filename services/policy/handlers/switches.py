"""Pause, Resume, ListPauses."""

from typing import Any

import grpc
from heliograph.policy.v1alpha1 import stop_switches_pb2
from heliograph.type.v1alpha1 import notification_pb2

from services.policy import switch_store
from services.policy.stop_switches import Scope, StopSwitch
from services.policy.switch_store import Pause
from services.policy.timestamps import timestamp
from services.runtime import paging
from services.runtime.clock import Clock
from services.runtime.database import Database

Context = grpc.aio.ServicerContext[Any, Any]
Channel = notification_pb2.Channel


class SwitchHandlers:
    """See the protos for what each call means."""

    database: Database
    clock: Clock

    async def Pause(
        self, request: stop_switches_pb2.PauseRequest, context: Context
    ) -> stop_switches_pb2.PauseResponse:
        switch = _switch(request.stop_switch)
        async with self.database.unit_of_work() as work:
            pause = await switch_store.close(work, switch, request.reason, self.clock.now())
            await work.commit()
        return stop_switches_pb2.PauseResponse(pause=_pause_message(pause))

    async def Resume(
        self, request: stop_switches_pb2.ResumeRequest, context: Context
    ) -> stop_switches_pb2.ResumeResponse:
        async with self.database.unit_of_work() as work:
            was_paused = await switch_store.reopen(work, _switch(request.stop_switch))
            await work.commit()
        return stop_switches_pb2.ResumeResponse(was_paused=was_paused)

    async def ListPauses(
        self, request: stop_switches_pb2.ListPausesRequest, context: Context
    ) -> stop_switches_pb2.ListPausesResponse:
        size = paging.page_size(request.page_size)
        position = switch_store.Position.read(request.page_token)
        async with self.database.read() as work:
            found = await switch_store.listed(work, position, size + 1)
        token = switch_store.Position.of(found[size - 1]).token() if len(found) > size else ""
        return stop_switches_pb2.ListPausesResponse(
            pauses=map(_pause_message, found[:size]), next_page_token=token
        )


def _switch(message: stop_switches_pb2.StopSwitch) -> StopSwitch:
    match message.WhichOneof("scope"):
        case "channel":
            return StopSwitch(Scope.CHANNEL, str(message.channel))
        case "event_type":
            return StopSwitch(Scope.EVENT_TYPE, message.event_type)
        case "campaign_id":
            return StopSwitch(Scope.CAMPAIGN, message.campaign_id)
        case _:
            return StopSwitch(Scope.ALL)


def _pause_message(pause: Pause) -> stop_switches_pb2.PauseState:
    message = stop_switches_pb2.StopSwitch()
    match pause.switch.scope:
        case Scope.CHANNEL:
            message.channel = Channel.ValueType(int(pause.switch.value))
        case Scope.EVENT_TYPE:
            message.event_type = pause.switch.value
        case Scope.CAMPAIGN:
            message.campaign_id = pause.switch.value
        case Scope.ALL:
            message.all = True
    return stop_switches_pb2.PauseState(
        stop_switch=message, reason=pause.reason, pause_time=timestamp(pause.pause_time)
    )
