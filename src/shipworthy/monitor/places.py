"""Where the processes of one server meet: a private folder with the socket, and the files that the monitor process
writes for the others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Places:
    """Of one server on one node."""

    folder: Path
    """That only its user can look into."""

    @property
    def socket(self) -> Path:
        """Where workers and management connect."""
        return self.folder / "socket"

    @property
    def exposition(self) -> Path:
        """Metrics, in Prometheus' text format."""
        return self.folder / "exposition"

    @property
    def states(self) -> Path:
        """What is remembered where no other place was chosen."""
        return self.folder / "states"

    def view(self, model: str) -> Path:
        """What there is to see of a model: a list in JSON, one entry for each version."""
        return self.folder / f"view-{quote(model, safe='')}.json"


def write_whole(path: Path, content: bytes) -> None:
    """So that whoever reads finds all of it, or what was there before."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)
