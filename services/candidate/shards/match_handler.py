"""MatchUsers as a shard answers it, step by step."""

from collections.abc import AsyncIterator

import numpy as np
from heliograph.candidate.v1alpha1 import sharding_pb2

from services.candidate.match_part import MatchPart
from services.candidate.shards.conversion import read_numbers, write_answer
from services.candidate.shards.matching import Step, Told, in_parts
from services.candidate.sources.arrays import Rows
from services.runtime.errors import InvalidArgument


async def answers(part: MatchPart, width: int, steps: AsyncIterator[Step]) -> AsyncIterator[Told]:
    """To all steps but the first, and what that one is answered with; tastes have a width. Raises
    InvalidArgument for a step out of turn or with numbers that don't fit."""
    cosines = await part.cosines()
    for numbers in in_parts(cosines.astype("<f4")):
        yield Told(cosines=numbers)
    nearer, told = await _nearer(steps)
    _require(len(nearer) == len(cosines), "nearer.counts: not as many as cosines")
    found = await part.candidates(nearer, told.others, told.most)
    yield Told(candidates=write_answer(found))
    size = len(found.audience.ids)
    async for step in steps:
        yield await _answer(part, size, width, step)


async def _nearer(steps: AsyncIterator[Step]) -> tuple[Rows, sharding_pb2.Nearer]:
    found = []
    async for step in steps:
        _require(step.HasField("nearer"), "nearer is the second step")
        found.append(read_numbers(step.nearer.counts.values, "<i4"))
        if not step.nearer.counts.more:
            return np.concatenate(found).astype(np.int64), step.nearer
    raise InvalidArgument("nearer is cut short")


async def _answer(part: MatchPart, size: int, width: int, step: Step) -> Told:
    kind = step.WhichOneof("step")
    if kind == "places":
        vectors = await part.tastes(_places(step.places, size))
        return Told(tastes=sharding_pb2.Tastes(vectors=vectors.astype("<f4").tobytes()))
    if kind == "tastes":
        tastes, least = (
            read_numbers(values, "<f4") for values in (step.tastes.vectors, step.tastes.least)
        )
        _require(len(tastes) == len(least) * width, "tastes.vectors: not of the model's width")
        counts = await part.count_nearer(tastes.reshape(len(least), width), least)
        return Told(counts=sharding_pb2.Numbers(values=counts.astype("<i4").tobytes()))
    _require(kind == "matched", f"{kind} is out of turn")
    places, relevance = _places(step.matched, size), read_numbers(step.matched.relevance, "<f4")
    _require(len(places) == len(relevance), "matched.relevance: not as many as places")
    scores = await part.scores(places, relevance)
    return Told(scores=sharding_pb2.Numbers(values=scores.astype("<f4").tobytes()))


def _places(asked: sharding_pb2.CandidatePlaces, size: int) -> Rows:
    places = np.array(asked.places, np.int64)
    _require(bool((places < size).all()), f"places: there are {size} candidates")
    return places


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise InvalidArgument(problem)
