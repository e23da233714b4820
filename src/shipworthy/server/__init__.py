"""Packages over HTTP.

The web framework is imported with `create_app`, or by a server that is already loading its packages meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .executor import Done, Executor, QueueFullError, StoppedError, ThreadExecutor
from .hosting import Server, serve
from .settings import Settings

if TYPE_CHECKING:
    from .app import create_app

__all__ = [
    "Done",
    "Executor",
    "QueueFullError",
    "Server",
    "Settings",
    "StoppedError",
    "ThreadExecutor",
    "create_app",
    "serve",
]


def __getattr__(name: str) -> object:
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .app import create_app

    return create_app
