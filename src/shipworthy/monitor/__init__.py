"""Watching what a served model is asked and answers: drift against its reference, and live quality."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .merging import merged
    from .monitor import Monitor
    from .options import MonitorOptions
    from .store import States
    from .view import Alarm, View

# What only chooses rows, or only reads views, must not wait for what computes.
_HOME = {
    "Alarm": "view",
    "Monitor": "monitor",
    "MonitorOptions": "options",
    "States": "store",
    "View": "view",
    "merged": "merging",
}

__all__ = ["Alarm", "Monitor", "MonitorOptions", "States", "View", "merged"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
