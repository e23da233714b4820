"""Trying a new version beside the one that serves, and deciding by evidence which of them goes on."""

from .record import Rollout
from .spec import Spec
from .store import Rollouts

__all__ = ["Rollout", "Rollouts", "Spec"]
