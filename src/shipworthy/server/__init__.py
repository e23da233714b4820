"""Packages over HTTP.

Each name is loaded at its first use: a process that only looks after others needs neither FastAPI nor NumPy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import create_app
    from .hosting import Server, serve
    from .plan import Logs
    from .settings import Settings
    from .sockets import Tls

_MODULE_OF = {
    "Logs": "plan",
    "Server": "hosting",
    "Settings": "settings",
    "Tls": "sockets",
    "create_app": "app",
    "serve": "hosting",
}

__all__ = ["Logs", "Server", "Settings", "Tls", "create_app", "serve"]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value
