"""The user index: what recommendations and daily generation rest on, in memory."""

from services.candidate.index.index import IndexState, UserIndex

__all__ = ["IndexState", "UserIndex"]
