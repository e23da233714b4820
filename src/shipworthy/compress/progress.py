"""What a training shows while it works: a bar on a terminal or in a notebook, plain lines elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from ..evidence import Epoch

Shown: TypeAlias = bool | Callable[[Epoch], None]
"""Whether a training shows itself, or what is to hear of each epoch instead."""


@contextlib.contextmanager
def epochs_shown(what: str, total: int, show: Shown) -> Iterator[Callable[[Epoch], None]]:
    """A function to tell of each epoch."""
    console = Console(stderr=True)
    if callable(show):
        yield show
    elif not show:
        yield lambda _: None
    elif console.is_terminal or console.is_jupyter:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TextColumn("left:"), TimeRemainingColumn(), console=console, transient=True) as bars:
            task = bars.add_task(what, total=total)
            yield lambda epoch: bars.update(task, completed=epoch.number, description=f"{what}, {_said(epoch)}")
    else:
        yield lambda epoch: _line(f"{what} [{epoch.number}/{total}] {_said(epoch)}")


def _said(epoch: Epoch) -> str:
    metric = "" if epoch.validation is None else f", metric {epoch.validation:.4f}"
    return f"loss {epoch.loss:.4g}{metric}"


def _line(text: str) -> None:
    sys.stderr.write(f"{text}\n")
