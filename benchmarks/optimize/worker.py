"""The process that serves one row: `python -m benchmarks.optimize.worker OPENER FOLDER THREADS`, JSON lines in and out.

It needs numpy, the row's engine, and nothing of Shipworthy, so that it runs in every peer's environment."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .openers import OPENERS, Opened
from .subject import Subject, read_subject

_MOST_RUNS = 20_000


class Worker:
    """Holds what is open, and the feeds of the batch sizes that were asked for."""

    def __init__(self, opener: str, folder: Path, threads: int) -> None:
        self._folder = folder
        self._threads = threads
        self._subject: Subject = read_subject(folder / "subject.json")
        self._open: Opened = OPENERS[opener](self._subject, folder, threads)
        self._feeds: dict[int, dict[str, np.ndarray]] = {}

    def open(self, batch: int, streams: int) -> dict[str, Any]:
        """Seconds until the first answer, and the precision that the engine says it uses."""
        feeds = self._of(batch)
        start = time.perf_counter()
        self._open.ready(batch, streams)
        self._open.run(feeds)
        return {"seconds": time.perf_counter() - start, "precision": self._open.precision}

    def time(self, batch: int, streams: int, seconds: float, least: int, warm: int) -> dict[str, Any]:
        """Runs per second of all streams together, and the time of each run: a closed loop."""
        feeds = self._of(batch)
        times: list[list[float]] = [[] for _ in range(streams)]
        errors: list[BaseException] = []
        start = threading.Barrier(streams)

        def call(stream: int) -> None:
            try:
                # Also torch's thread pool of this very thread comes to life here.
                for _ in range(warm):
                    self._open.run(feeds)
                start.wait()
                times[stream] = _loop(self._open.run, feeds, seconds, least)
            except BaseException as error:  # noqa: BLE001  carried to the asking thread, and raised there
                errors.append(error)
                start.abort()

        gc.collect()
        gc.disable()
        if streams == 1:
            call(0)
        else:
            callers = [threading.Thread(target=call, args=(stream,)) for stream in range(streams)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
        gc.enable()
        if errors:
            raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
        return {"rate": sum(len(own) / sum(own) for own in times), "times": [t for own in times for t in own]}

    def answers(self, split: str, count: int, batch: int, out: str) -> dict[str, Any]:
        """Write the outputs of a split's first `count` rows, all of them where it is 0; the last batch is filled up."""
        rows = self._subject.rows(split, count or None)
        total = len(next(iter(rows.values())))
        found = []
        for first in range(0, total, batch):
            index = np.minimum(np.arange(first, first + batch), total - 1)
            found.append(np.array(self._open.run({name: array[index] for name, array in rows.items()})))
        np.save(out, np.concatenate(found)[:total])
        return {}

    def memory(self) -> dict[str, Any]:
        """Peak resident memory in 10^6 bytes: VmHWM, which starts anew with the program."""
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return {"peak_mb": int(line.split()[1]) * 1024 / 1e6}
        return {"peak_mb": None}

    def _of(self, batch: int) -> dict[str, np.ndarray]:
        if batch not in self._feeds:
            self._feeds[batch] = self._subject.feeds(batch)
        return self._feeds[batch]


def _loop(
    run: Callable[[dict[str, np.ndarray]], np.ndarray], feeds: dict[str, np.ndarray], seconds: float, least: int
) -> list[float]:
    times: list[float] = []
    now = time.perf_counter()
    end = now + seconds
    while (now < end or len(times) < least) and len(times) < _MOST_RUNS:
        before = now
        run(feeds)
        now = time.perf_counter()
        times.append(now - before)
    return times


def _wires() -> tuple[BinaryIO, BinaryIO]:
    """Libraries print to descriptor 1 when they like: the answers go to a copy of it, and 1 becomes standard error."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return questions, answers


def main(opener: str, folder: Path, threads: int) -> None:
    questions, answers = _wires()
    worker: Worker | None = None
    for line in questions:
        question = json.loads(line)
        try:
            worker = worker or Worker(opener, folder, threads)
            reply = getattr(worker, question.pop("do"))(**question)
        except Exception as error:  # noqa: BLE001  engines raise anything; it is the row's error
            reply = {"error": f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"[:300]}
        answers.write(json.dumps(reply).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
