"""Answers of configuration calls by request id (AIP-155): a replay gets the first answer."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

from services.runtime.database import UnitOfWork, load_queries
from services.runtime.errors import Aborted, AlreadyExists, FieldError

_queries = load_queries(Path(__file__).with_name("request_log.sql"))


@dataclass(frozen=True, slots=True)
class Request:
    """One call: its method's name, its request id, and the rest of its content as bytes."""

    method: str
    request_id: str
    content: bytes

    def digest(self) -> bytes:
        """16 bytes that tell requests with different content apart."""
        return blake2b(self.content, digest_size=16).digest()


async def first_answer(work: UnitOfWork, request: Request) -> bytes | None:
    """The answer this request id got before; None when it is new.

    Raises AlreadyExists when the id was used with other content.
    """
    asked = {"method": request.method, "request_id": request.request_id}
    for row in await work.rows(_queries.find_request, asked):
        if bytes(row.digest) != request.digest():
            raise AlreadyExists(
                f"request id {request.request_id!r} was used for another request",
                reason="REQUEST_ID_REUSED",
                fields=[FieldError("request_id", "was used with other content")],
            )
        return bytes(row.answer)
    return None


async def remember(work: UnitOfWork, request: Request, answer: bytes, now: datetime) -> None:
    """Store the answer in the same unit of work as the change it tells of.

    Raises Aborted when a concurrent call with the same id was first; a retry gets its answer.
    """
    columns = {
        "method": request.method,
        "request_id": request.request_id,
        "digest": request.digest(),
        "answer": answer,
        "now": now,
    }
    if not await work.rows(_queries.insert_request, columns):
        raise Aborted("a concurrent call with the same request id was first; repeat the call")
