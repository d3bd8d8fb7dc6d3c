"""Scores behind Ray Serve's batching."""

import asyncio
import os
import signal
import sys

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.scoring import Scorer, Served

MOST_CALLS = 256
"""That wait for one replica."""


def main() -> None:
    """Serve until stopped."""
    served = Served.from_environment()

    @serve.deployment(
        num_replicas=served.setting.workers,
        max_ongoing_requests=MOST_CALLS,
        ray_actor_options={"num_cpus": 0},
    )
    class Ranker:
        """One replica."""

        def __init__(self) -> None:
            self._scorer = Scorer(served)

        @serve.batch(
            max_batch_size=served.setting.calls,
            batch_wait_timeout_s=served.setting.wait_ms / 1000,
        )
        async def score(self, calls: list[bytes]) -> list[bytes]:
            return await asyncio.to_thread(self._scorer.score, calls)

        async def __call__(self, request: Request) -> Response:
            answer = await self.score(await request.body())
            return Response(answer, media_type="application/octet-stream")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # Ray ends its processes at exit
    ray.init(
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        _temp_dir=os.environ["HOME"],
    )
    serve.start(http_options={"host": "127.0.0.1", "port": served.port})
    application = Ranker.bind()  # type: ignore[attr-defined]
    serve.run(application, route_prefix="/score", blocking=True)


if __name__ == "__main__":
    main()
