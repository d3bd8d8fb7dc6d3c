"""One thing that a service refuses must not hold up those leased with it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc

from services.pacer.leases import is_refused

Item = TypeVar("Item")


async def divided(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Awaitable[None]],
    spoiled: Callable[[Item, grpc.aio.AioRpcError], Awaitable[None]],
) -> None:
    """Work on the items together; where the call is refused for what it contains, on its halves.

    What is refused alone goes to `spoiled`. `work` must be idempotent. Other failures are raised.
    """
    try:
        await work(items)
    except grpc.aio.AioRpcError as error:
        if not is_refused(error):
            raise
        if len(items) == 1:
            await spoiled(items[0], error)
            return
        middle = len(items) // 2
        await divided(items[:middle], work, spoiled)
        await divided(items[middle:], work, spoiled)
