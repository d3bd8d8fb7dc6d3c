"""Scores behind BentoML's adaptive batching, which waits as long as pays by its own estimate."""

from typing import Any

import bentoml
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.scoring import Scorer, Served

SERVED = Served.from_environment()
PATIENCE_MS = 60_000
"""BentoML refuses calls that it doesn't expect to answer within this."""


class Body(bentoml.IODescriptor):
    """A request or an answer that is bytes: one call of the batch."""

    __root_input__ = True
    body: bytes = b""

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Any:
        """A batch of one call."""
        return [await request.body()]

    @classmethod
    async def to_http_response(cls, obj: Any, serde: Any) -> Response:
        """The call's part of the batch."""
        return Response(obj[0], media_type="application/octet-stream")


@bentoml.service(
    workers=SERVED.setting.workers,
    threads=1,
    traffic={"timeout": PATIENCE_MS / 1000},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Ranker:
    """One process of it."""

    def __init__(self) -> None:
        self._scorer = Scorer(SERVED)

    @bentoml.api(
        route="/score",
        batchable=True,
        max_batch_size=SERVED.setting.calls,
        max_latency_ms=PATIENCE_MS,
        input_spec=Body,
        output_spec=Body,
    )
    def score(self, calls: list[bytes]) -> list[bytes]:
        """The batch."""
        return self._scorer.score(calls)
