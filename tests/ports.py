"""Ports for servers that tests start."""

import random
import socket
from contextlib import ExitStack

FIRST, PAST = 10_000, 32_000
"""Below those that the kernel gives to who asks for any (32,768 and more on Linux): one of them
could be given away before the server for which it was found listens on it."""


def free_addresses(count: int) -> list[str]:
    """Different addresses of this machine that nothing listens on."""
    with ExitStack() as held:
        found: list[str] = []
        while len(found) < count:
            port = random.randrange(FIRST, PAST)
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            found.append(f"127.0.0.1:{port}")
        return found
