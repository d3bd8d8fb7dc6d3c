"""Scores behind LitServe's batching, over its queue of ZeroMQ."""

from typing import Annotated

import litserve
from fastapi import Depends, Request
from starlette.responses import Response

from bench.peers.scoring import Scorer, Served


async def _body(request: Request) -> bytes:
    return await request.body()


class Ranker(litserve.LitAPI):
    """One worker of it."""

    def setup(self, device: str) -> None:
        """In the worker's process."""
        self._scorer = Scorer(Served.from_environment())

    def decode_request(self, request: Annotated[bytes, Depends(_body)]) -> bytes:
        """As it came."""
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Merged in predict."""
        return list(inputs)

    def predict(self, x: list[bytes]) -> list[bytes]:
        """The batch."""
        return self._scorer.score(x)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """Each call's part."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """As it is."""
        return Response(output, media_type="application/octet-stream")


def main() -> None:
    """Serve until stopped."""
    served = Served.from_environment()
    api = Ranker(
        max_batch_size=served.setting.calls,
        batch_timeout=served.setting.wait_ms / 1000,
        api_path="/score",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=served.setting.workers,
        fast_queue=True,
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=served.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
