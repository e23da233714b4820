"""The user's own code: found by `module:callable`, run, and blamed by its own line when it fails.

Only the notebook side may use this room."""

from .blame import calling_line, describe_line, is_user_file, layer_of, raised_at, user_line
from .imports import importing_from, resolve, running

__all__ = [
    "calling_line",
    "describe_line",
    "importing_from",
    "is_user_file",
    "layer_of",
    "raised_at",
    "resolve",
    "running",
    "user_line",
]
