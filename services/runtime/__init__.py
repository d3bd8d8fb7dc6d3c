"""The frame that every service stands in."""

from services.runtime.host import Bind, Host
from services.runtime.process import main

__all__ = ["Bind", "Host", "main"]
