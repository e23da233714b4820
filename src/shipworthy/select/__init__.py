"""Candidates, the sweep over them, the choice, and the report of it."""

from .bench import Effort
from .build import build
from .outcome import Best, BuildReport
from .store import Entry, read_journal

__all__ = ["Best", "BuildReport", "Effort", "Entry", "build", "read_journal"]
