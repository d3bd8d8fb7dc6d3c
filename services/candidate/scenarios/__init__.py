"""Scenarios: named parameters of recommendations."""

from services.candidate.scenarios.applying import Applied, apply, check
from services.candidate.scenarios.builtin import BUILT_IN
from services.candidate.scenarios.store import Scenarios

__all__ = ["BUILT_IN", "Applied", "Scenarios", "apply", "check"]
