"""Where the results of a run are written: as they come in one folder, whole in another."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import picture, results, tables
from .race import Told
from .results import Result

FILES = ("results.json", "results.md", "results.svg", "results.png")


class Store:
    """`rows` are those so far. All files are written to `folder`, and copied to `final` when a run is whole."""

    def __init__(
        self,
        folder: Path,
        final: Path,
        environment: dict[str, Any],
        told: Told,
        *,
        order: Sequence[str],
        keep: bool = False,
    ) -> None:
        self.rows: list[Result] = []
        self.environment = environment
        self._folder, self._final, self._told, self._order = folder, final, told, order
        self._began = time.monotonic()
        if folder != final:
            # What another run has left there is not to be copied with this one's.
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
        earlier: list[Any] = []
        if keep:
            self.rows, before = results.read(final / FILES[0])
            earlier = before.get("runs", [])
        self._run = {name: environment[name] for name in ("date", "command", "revision")}
        environment["runs"] = [*earlier, self._run]

    def keep(self, found: Sequence[Result]) -> None:
        """Takes the rows of a workload, or of a part of it, in the place of its earlier ones."""
        self.rows = results.merged(self.rows, found, self._order)
        self.environment["seconds"] = self._run["seconds"] = round(time.monotonic() - self._began)
        results.write(self._folder / FILES[0], self.rows, self.environment)

    def show(self) -> None:
        """Tables and picture. What goes wrong there is told, and costs no row."""
        self._survived(lambda: self._tables())
        self._survived(lambda: picture.write(self._folder, self.rows))

    def finish(self, failed: int) -> None:
        """Copies all to where results stay, unless a workload failed as a whole."""
        if self._folder == self._final:
            self._told(f"written to {self._folder}")
        elif failed:
            self._told(f"left in {self._folder}, because {failed} workloads failed; {self._final} is as it was")
        else:
            self._final.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                if (self._folder / name).exists():
                    shutil.copyfile(self._folder / name, self._final / name)
            self._told(f"written to {self._final}")

    def _tables(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / FILES[1]).write_text(tables.markdown(self.rows, self.environment))

    def _survived(self, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception:  # noqa: BLE001  an hour of measurements outlives whatever draws them
            self._told(traceback.format_exc())
