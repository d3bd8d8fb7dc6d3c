"""candidate's RPCs: an engine call each."""

from services.candidate.handlers.calls import CandidateHandler

__all__ = ["CandidateHandler"]
