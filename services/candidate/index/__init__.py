"""The user index: what recommendations and daily generation rest on, in memory."""

from services.candidate.index.index import IndexOptions, IndexState, IndexView, UserIndex

__all__ = ["IndexOptions", "IndexState", "IndexView", "UserIndex"]
