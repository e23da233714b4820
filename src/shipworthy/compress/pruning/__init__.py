"""Pruning: weights set to zero, or whole channels removed, with what that does to the answers."""

from .verb import prune

__all__ = ["prune"]
