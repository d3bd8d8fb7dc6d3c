"""Answers of configuration calls, kept by request id (AIP-155)."""

from datetime import datetime
from pathlib import Path

from services.runtime.database import UnitOfWork, load_queries
from services.runtime.errors import AlreadyExists, FieldError

QUERIES = load_queries(Path(__file__).with_name("catalogue_queries.sql"))


async def answered(work: UnitOfWork, method: str, request_id: str, digest: bytes) -> bytes | None:
    """The answer that this request id got, None when it is new or empty.

    Concurrent calls with one id wait for each other until their unit of work ends. Raises
    AlreadyExists when the id was used with other content.
    """
    if not request_id:
        return None
    params = {"method": method, "request_id": request_id}
    await work.execute(QUERIES.lock_request, params)
    rows = await work.rows(QUERIES.get_request, params)
    if not rows:
        return None
    if bytes(rows[0].digest) != digest:
        raise reused()
    return bytes(rows[0].answer)


async def keep(
    work: UnitOfWork, method: str, request_id: str, digest: bytes, answer: bytes, now: datetime
) -> None:
    """Keep an answer; nothing for an empty request id."""
    if request_id:
        params = {"method": method, "request_id": request_id, "digest": digest}
        await work.execute(QUERIES.put_request, params | {"answer": answer, "now": now})


def reused() -> AlreadyExists:
    """The error for a request id that comes again with other content."""
    return AlreadyExists(
        "this request id was used for another request",
        reason="REQUEST_ID_REUSED",
        fields=[FieldError("request_id", "was used for another request")],
    )
