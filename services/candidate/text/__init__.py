"""Vectors of texts, for items that nobody has met yet."""

from services.candidate.text.encoder import DIMENSIONS, TextEncoder
from services.candidate.text.weights import MODEL, TextModelError

__all__ = ["DIMENSIONS", "MODEL", "TextEncoder", "TextModelError"]
