"""A shard's users as those whom a user may match, from the front's side: see MatchUsers."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from heliograph.candidate.v1alpha1 import sharding_pb2

from services.candidate.questions import Found, Subject
from services.candidate.shards.client import Conversation
from services.candidate.shards.conversion import read_answer
from services.candidate.sources.arrays import Floats, Rows

PART = 1 << 20
"""Numbers of one message: 4 MiB."""
Step = sharding_pb2.MatchUsersRequest
Told = sharding_pb2.MatchUsersResponse
Talk = Conversation[Step, Told]


class RemotePart:
    """See `Part`."""

    def __init__(
        self, talk: Talk, question: sharding_pb2.FindUsersRequest, subject: Subject
    ) -> None:
        self._talk = talk
        self._question = question
        self._subject = subject

    async def cosines(self) -> Floats:
        """See `Part`."""
        self._talk.tell(Step(question=self._question))
        found: list[Floats] = []
        more = True
        while more:
            answer = (await self._talk.hear()).cosines
            found.append(np.frombuffer(answer.values, "<f4"))
            more = answer.more
        return np.concatenate(found)

    async def candidates(self, nearer: Rows, others: int, most: int) -> Found:
        """See `Part`."""
        for counts in in_parts(nearer.astype("<i4")):
            told = sharding_pb2.Nearer(counts=counts, others=others, most=most)
            self._talk.tell(Step(nearer=told))
        return read_answer((await self._talk.hear()).candidates, self._subject)

    async def tastes(self, places: Rows) -> Floats:
        """See `Part`."""
        asked = sharding_pb2.CandidatePlaces(places=places.tolist())
        answer = await self._talk.ask(Step(places=asked))
        return np.frombuffer(answer.tastes.vectors, "<f4").reshape(len(places), -1)

    async def count_nearer(self, tastes: Floats, least: Floats) -> Rows:
        """See `Part`."""
        asked = sharding_pb2.Tastes(
            vectors=tastes.astype("<f4").tobytes(), least=least.astype("<f4").tobytes()
        )
        answer = await self._talk.ask(Step(tastes=asked))
        return np.frombuffer(answer.counts.values, "<i4").astype(np.int64)

    async def scores(self, places: Rows, relevance: Floats) -> Floats:
        """See `Part`."""
        asked = sharding_pb2.CandidatePlaces(
            places=places.tolist(), relevance=relevance.astype("<f4").tobytes()
        )
        answer = await self._talk.ask(Step(matched=asked))
        return np.frombuffer(answer.scores.values, "<f4")


def in_parts(values: npt.NDArray[np.generic]) -> Iterator[sharding_pb2.Numbers]:
    """Numbers of four bytes as messages, at least one."""
    for start in range(0, max(len(values), 1), PART):
        end = start + PART
        yield sharding_pb2.Numbers(values=values[start:end].tobytes(), more=end < len(values))
