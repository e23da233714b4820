"""Versions of packages, aliases, and the log of what happened to them, in SQLite or PostgreSQL.

What needs a database is loaded at its first use: names are read without one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .names import CHAMPION, Reference, locate, parse
from .records import Event, Freed, Live, Losses, Model, Version

if TYPE_CHECKING:
    from .database import Database
    from .location import default_url
    from .losses import losses_of
    from .registry import Registry

_FILE_OF = {"Database": "database", "Registry": "registry", "default_url": "location", "losses_of": "losses"}

__all__ = [
    "CHAMPION",
    "Database",
    "Event",
    "Freed",
    "Live",
    "Losses",
    "Model",
    "Reference",
    "Registry",
    "Version",
    "default_url",
    "locate",
    "losses_of",
    "parse",
]


def __getattr__(name: str) -> object:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_FILE_OF[name]}", __name__), name)
    globals()[name] = value
    return value
