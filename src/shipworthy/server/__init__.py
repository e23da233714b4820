"""Packages over HTTP."""

from .app import create_app
from .executor import Done, Executor, QueueFullError, StoppedError, ThreadExecutor
from .hosting import Server, serve
from .settings import Settings

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
