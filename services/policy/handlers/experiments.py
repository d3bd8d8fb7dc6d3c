"""PutExperiment, ListExperiments."""

from typing import Any

import grpc
from heliograph.policy.v1alpha1 import experiments_pb2

from services.policy import request_log
from services.policy.experiment_store import ExperimentStore
from services.policy.experiments import Experiment, Experiments, Group, LayerFull
from services.policy.request_log import Request
from services.runtime import paging
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import FailedPrecondition, FieldError, InvalidArgument
from services.runtime.experiments import ExperimentError

Context = grpc.aio.ServicerContext[Any, Any]


class ExperimentHandlers:
    """See the protos for what each call means."""

    database: Database
    clock: Clock
    experiments: ExperimentStore

    async def PutExperiment(
        self, request: experiments_pb2.PutExperimentRequest, context: Context
    ) -> experiments_pb2.PutExperimentResponse:
        content = request.experiment.SerializeToString(deterministic=True)
        asked = Request("PutExperiment", request.request_id, content)
        async with self.database.unit_of_work() as work:
            first = await request_log.first_answer(work, asked)
            if first is not None:
                return experiments_pb2.PutExperimentResponse.FromString(first)
            now = self.clock.now()
            experiment = _experiment(request.experiment)
            after = _put(await self.experiments.current(work), experiment)
            await self.experiments.append(work, after, now)
            answer = experiments_pb2.PutExperimentResponse(
                experiment=_message(after.by_name[experiment.name]), version=after.version
            )
            await request_log.remember(work, asked, answer.SerializeToString(), now)
            await work.commit()
        return answer

    async def ListExperiments(
        self, request: experiments_pb2.ListExperimentsRequest, context: Context
    ) -> experiments_pb2.ListExperimentsResponse:
        size = paging.page_size(request.page_size)
        position = paging.decode(request.page_token, [str])
        async with self.database.read() as work:
            current = await self.experiments.current(work)
        after = "" if position is None else str(position[0])
        names = [name for name in sorted(current.by_name) if name > after]
        token = paging.encode([names[size - 1]]) if len(names) > size else ""
        return experiments_pb2.ListExperimentsResponse(
            experiments=[_message(current.by_name[name]) for name in names[:size]],
            next_page_token=token,
        )


def _put(current: Experiments, experiment: Experiment) -> Experiments:
    try:
        return current.with_put(experiment)
    except LayerFull as error:
        fields = [FieldError("experiment.share", str(error))]
        raise FailedPrecondition(str(error), reason="LAYER_FULL", fields=fields) from error
    except ExperimentError as error:
        fields = [FieldError("experiment.groups", str(error))]
        raise InvalidArgument(str(error), reason="INVALID_EXPERIMENT", fields=fields) from error


def _experiment(message: experiments_pb2.Experiment) -> Experiment:
    groups = tuple(
        Group(group.name, group.weight, dict(group.overrides), group.holdout)
        for group in message.groups
    )
    layer = message.layer or message.name
    return Experiment(message.name, layer, message.share, groups, message.active)


def _message(experiment: Experiment) -> experiments_pb2.Experiment:
    return experiments_pb2.Experiment(
        name=experiment.name,
        layer=experiment.layer,
        share=experiment.share,
        groups=[
            experiments_pb2.ExperimentGroup(
                name=group.name,
                weight=group.weight,
                overrides=group.overrides,
                holdout=group.holdout,
            )
            for group in experiment.groups
        ],
        active=experiment.active,
    )
