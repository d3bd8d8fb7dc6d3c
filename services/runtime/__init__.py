"""The frame that every service stands in."""

import os

from services.runtime.host import Bind, Host
from services.runtime.process import main

__all__ = ["Bind", "Host", "main"]

# gRPC's core tells of every closed connection on standard error otherwise.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
