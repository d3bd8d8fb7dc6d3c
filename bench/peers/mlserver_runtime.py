"""Scores behind MLServer's adaptive batching, by its gRPC.

MLServer merges the tensors of calls along their first axis and has no place for anything else, so
a call travels as one element of bytes, and what it merges is a list of calls.
"""

import asyncio

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from bench.peers.scoring import Scorer, Served


class Ranker(MLModel):
    """The model."""

    async def load(self) -> bool:
        """Once in each process."""
        served = Served.from_environment()
        self._scorer = Scorer(served)
        self._free = asyncio.Semaphore(served.setting.workers)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The batch."""
        calls = payload.inputs[0].data.root
        async with self._free:
            answers = await asyncio.to_thread(self._scorer.score, calls)
        output = ResponseOutput(
            name="scores", shape=[len(answers), 1], datatype="BYTES", data=answers
        )
        return InferenceResponse(model_name=self.name, outputs=[output])
