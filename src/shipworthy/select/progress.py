"""What a build shows while it works: bars on a terminal or in a notebook, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars


class Progress(Protocol):
    def begin(self, total: int) -> None:
        """There are `total` steps: the candidates, and the final."""

    def doing(self, what: str) -> None:
        """This is being done now."""

    def step(self, outcome: str) -> None:
        """One step is over, with this outcome."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None: ...


class Silent:
    """Shows nothing."""

    def begin(self, total: int) -> None: ...

    def doing(self, what: str) -> None: ...

    def step(self, outcome: str) -> None: ...

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None: ...


class Lines(Silent):
    """One line on standard error when something begins, and one when a step is over."""

    def __init__(self) -> None:
        self._total, self._done = 0, 0

    def begin(self, total: int) -> None:
        self._total = total

    def doing(self, what: str) -> None:
        sys.stderr.write(f"{what} …\n")

    def step(self, outcome: str) -> None:
        self._done += 1
        sys.stderr.write(f"[{self._done}/{self._total}] {outcome}\n")


class Bar:
    """A bar over the steps with the time that is left, and each outcome above it."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bars.add_task("preparing", total=None)

    def begin(self, total: int) -> None:
        self._bars.update(self._task, total=total)

    def doing(self, what: str) -> None:
        self._bars.update(self._task, description=what)

    def step(self, outcome: str) -> None:
        self._bars.console.print(outcome, markup=False, highlight=False)
        self._bars.advance(self._task)

    def __enter__(self) -> Bar:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bars.stop()


def progress_for(show: bool) -> Progress:
    """Bars where they can be drawn; lines where standard error is a file or a pipe."""
    if not show:
        return Silent()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal or console.is_jupyter else Lines()
