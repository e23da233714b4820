"""Signals that come before anybody can do what they mean."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def early_signals(told: threading.Event) -> Iterator[None]:
    """Before there is an event loop, the first SIGTERM or SIGINT is noted as `told`; the second one ends the process as
    if nobody had caught it, for packages may be opened in a thread that cannot be ended otherwise. A SIGHUP changes
    nothing, for all packages are read anyway.

    Two of one kind that come before the first could be noted are one: the system does not count them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    noted = False

    def note(number: int, frame: object) -> None:
        nonlocal noted
        if noted:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        noted = True
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
