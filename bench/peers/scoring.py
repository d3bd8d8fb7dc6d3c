"""What every peer runs: the model, and the calls of one of its batches merged into runs."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime as ort

from bench.peers.wire import USER_ROW, Arrays, Input, merge, unpack
from services.ranker.triton_model.sessions import CPU, session_options

SETTING = "HELIOGRAPH_PEER"
RUN_EVENTS = 640
"""Events of a run at most, as in the ranker: more are scored no faster together."""


@dataclass(frozen=True)
class Setting:
    """How a peer serves, the same for all of them."""

    workers: int
    """Processes, or replicas, that run the model."""
    threads: int
    """Of one run."""
    calls: int
    """Of a batch at most."""
    wait_ms: float
    """For a batch to fill, where the peer lets one say so."""


@dataclass(frozen=True)
class Served:
    """What the bench tells a peer."""

    model: str
    inputs: tuple[Input, ...]
    port: int
    setting: Setting

    @classmethod
    def from_environment(cls) -> "Served":
        """Raises KeyError outside of the bench."""
        told = json.loads(os.environ[SETTING])
        inputs = [Input(**{**each, "shape": tuple(each["shape"])}) for each in told["inputs"]]
        return cls(told["model"], tuple(inputs), told["port"], Setting(**told["setting"]))


class Scorer:
    """The model, opened at the first call; for several threads at once."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def score(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Scores [N, heads] of each call, as bytes of float32."""
        calls = [unpack(self._served.inputs, body) for body in bodies]
        answers: list[bytes] = []
        while len(answers) < len(calls):
            answers += self._run(_next_run(calls[len(answers) :]))
        return answers

    def _run(self, calls: Sequence[Arrays]) -> list[bytes]:
        found = self._session.run(["scores"], merge(self._served.inputs, calls))[0]
        ends = np.cumsum([len(call[USER_ROW]) for call in calls])
        return [part.tobytes() for part in np.split(found, ends[:-1])]

    @cached_property
    def _session(self) -> ort.InferenceSession:
        options = session_options(self._served.setting.threads)
        return ort.InferenceSession(Path(self._served.model).read_bytes(), options, providers=[CPU])


def _next_run(calls: Sequence[Arrays]) -> Sequence[Arrays]:
    """The first of them that make one run: one at least."""
    ends = np.cumsum([len(call[USER_ROW]) for call in calls])
    return calls[: max(1, int(np.searchsorted(ends, RUN_EVENTS, side="right")))]
