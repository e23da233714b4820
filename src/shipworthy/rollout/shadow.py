"""The challenger beside the champion: it is given copies of requests, and nobody waits for its answers.

One thread, with low priority and a budget of computing time, takes copies while the champion has nothing waiting, and
far fewer while the process is busy. What it has no time for is not copied; what goes wrong in it is evidence, and never
an answer."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encode import stack
from ..errors import Problem, ShipworthyError
from ..predict.ids import KINDS, unique_of, worded
from .backlog import Backlog, Copy, Failure, size_of
from .evidence import Threshold
from .load import WINDOW_S, Load
from .observed import UNIQUE_BYTES, Copies

if TYPE_CHECKING:
    from ..contract import Arrays
    from ..predict import Predictor
    from ..server.lane import Lane
    from .spec import Spec

TIMED = 0.5
"""Share of the copies with which both versions are timed."""
BUSY_PART = 0.1
"""So much of its budget a copy may cost while the process is busy."""
FIRST = 10
"""So often the champion runs for a copy that is timed while nobody knows yet what is slow."""
PATIENCE_S = 0.05
"""So long a copy waits for the champion to have nothing to do; then it is dropped."""
NICE = 10
_FLOAT, _WORD = Struct(">d"), Struct(">Q")
_LOG = logging.getLogger("shipworthy.rollout")


class Shadow:
    """Made and used on the event loop; its thread runs until `close`."""

    def __init__(self, champion: Lane, challenger: Lane, spec: Spec) -> None:
        self._champion, self._queue = champion.predictor, champion.queue
        self._challenger, self._watch = challenger.predictor, challenger.watch
        self._rate, self._scale = spec.shadow_rate, spec.error_scale
        point = challenger.predictor.point
        self._pause = point.threads / point.streams / spec.shadow_budget - 1.0
        """Seconds to rest for each second of work."""
        self._threshold = Threshold(None if spec.target_ms is None else spec.target_ms / 1e3)
        self._random = random.Random()
        self._load = Load()
        self._waiting = Backlog()
        self._some = threading.Event()
        self._closed = threading.Event()
        self._guard = threading.Lock()
        self._seen = Seen()
        self._thread = threading.Thread(target=self._run, name="shipworthy-shadow", daemon=True)
        for lane in (champion, challenger):
            lane.borrowers[:] = [*(one for one in lane.borrowers if one.is_alive()), self._thread]
        self._thread.start()

    def wants(self) -> bool:
        """Whether the next request is to be copied."""
        return self._waiting.has_room and (self._rate >= 1.0 or self._random.random() < self._rate)

    def copy(
        self, instances: Sequence[object], answers: Sequence[Mapping[str, Any]], ids: Sequence[bytes], digest: int
    ) -> Copy:
        """A request that has an answer, with what it predicts; from any thread."""
        place = self._random.randrange(len(answers)) if len(answers) > 1 else 0
        instance = instances[place]
        return Copy(instance, worded(answers[place]), ids[place], digest, size_of(instance))

    def offer(self, copy: Copy) -> None:
        """One whose answer has gone out; from any thread."""
        if not self._closed.is_set():
            self._note_put(self._waiting.put(copy))

    def champion_failed(self, instances: Sequence[object] = ()) -> None:
        """A request that was to be copied has failed; with its instances, where its outputs hold no answer to some.

        As of other requests the challenger is asked for one instance that is drawn. That this is one without an answer
        is as probable as one in so many, or more: so often the champion has failed too, and never looks worse than it
        is. Where its engine has failed, it has done so for all that ran together, and the challenger, which is not
        asked, counts as if it had not."""
        if self._closed.is_set():
            return
        if not instances:
            self._note_put(self._waiting.put_failure())
            return
        number = len(instances)
        instance, failed = instances[self._random.randrange(number)], self._random.random() * number < 1.0
        self._note_put(self._waiting.put(Copy(instance, None, b"", 0, size_of(instance), failed)))

    def _note_put(self, has_room: bool) -> None:
        if not has_room:
            self._lose()
        self._some.set()

    def _lose(self) -> None:
        with self._guard:
            self._seen.lost += 1

    def take(self) -> Seen:
        """What was seen since the last call."""
        with self._guard:
            seen, self._seen = self._seen, Seen()
        return seen

    def close(self) -> None:
        """Copy nothing more. The thread ends when the engine has come back to it."""
        self._closed.set()
        self._some.set()

    def _run(self) -> None:
        _lower_priority()
        while not self._closed.is_set():
            if not self._waiting:
                self._some.clear()
                # One may have come between the look and the clearing, or the end.
                if not (self._waiting or self._closed.is_set()):
                    self._some.wait()
                continue
            copy = self._waiting.take()
            if not self._has_turn():
                self._lose()
            elif isinstance(copy, Failure):
                with self._guard:
                    self._seen.failed.append((True, False))
            else:
                self._take_turn(copy)

    def _take_turn(self, copy: Copy) -> None:
        """Work, and rest for it."""
        self._load.rested()
        busy = self._load.busy or len(self._queue.running) >= self._queue.streams
        started = time.perf_counter()
        if self._answer(copy) and self._random.random() < TIMED:
            self._time(copy.instance)
        spent = time.perf_counter() - started
        self._load.worked()
        pause = (self._pause + 1.0) / BUSY_PART - 1.0 if busy else self._pause
        # With a whole core for a budget there would never be a time to look how busy the process is without this.
        self._closed.wait(max(spent * pause, WINDOW_S if self._load.old else 0.0))

    def _has_turn(self) -> bool:
        """Wait until nothing waits for the champion; False where that takes too long."""
        end = time.perf_counter() + PATIENCE_S
        while self._queue.rows:
            if time.perf_counter() > end or self._closed.wait(0.001):
                return False
        return True

    def _answer(self, copy: Copy) -> bool:
        """Whether both have an answer; that one has none, or another one, is noted."""
        try:
            ((_, feeds),) = stack(self._challenger.codec.instances((copy.instance,)))
            started = time.perf_counter()
            outputs = self._challenger.run(feeds)
            seconds = time.perf_counter() - started
            (row,) = self._challenger.rows(outputs)
        # Whatever a challenger raises is evidence against it, and must not end its thread.
        except Exception as error:  # noqa: BLE001
            self._note_failure(copy, error)
            return False
        self._show(feeds, outputs, seconds)
        with self._guard:
            self._seen.failed.append((copy.failed, isinstance(row, Problem)))
            if isinstance(row, Problem) or copy.predicted is None:
                return False
            self._compare(copy, copy.predicted, row)
        return True

    def _show(self, feeds: Arrays, outputs: Arrays, seconds: float) -> None:
        """To who watches the challenger, as answers that are given are shown."""
        try:
            if self._watch is not None and self._watch.ran(1) is not None:
                self._watch.take(feeds, outputs, 0, seconds)
        # That nobody sees it is no fault of the challenger.
        except Exception as error:  # noqa: BLE001
            self._watch = None
            _LOG.critical("a version is watched no more", exc_info=error)

    def _compare(self, copy: Copy, old: tuple[int, int], new: Mapping[str, Any]) -> None:
        (kind, ours), (other, theirs) = old, worded(new)
        if KINDS[kind] == "none" or kind != other:
            return
        worst = float(ours != theirs)
        if KINDS[kind] == "scalar" and self._scale is not None:
            worst = min(1.0, abs(_number(ours) - _number(theirs)) / self._scale)
        self._seen.digests.append(copy.digest)
        self._seen.worst.append(worst)
        if worst:
            self._seen.pairs.append((unique_of(copy.id), ours, theirs))

    def _time(self, instance: object) -> None:
        """Both versions with one and the same instance, in random order: what else the host does meets both.

        As long as nobody knows what is slow, the champion alone, and at once: a challenger that takes long would have
        few copies until then, and time to be promoted."""
        if self._threshold.seconds is None:
            for _ in range(FIRST):
                if (alone := self._spent(self._champion, instance)) is not None:
                    self._threshold.slow(alone, new=False)
            return
        spent: dict[bool, float] = {}
        runs: list[tuple[bool, Predictor]] = [(False, self._champion), (True, self._challenger)]
        self._random.shuffle(runs)
        for new, predictor in runs:
            if (taken := self._spent(predictor, instance)) is None:
                return
            spent[new] = taken
        slow_new = self._threshold.slow(spent[True], new=True)
        slow_old = self._threshold.slow(spent[False], new=False)
        if slow_new is not None and slow_old is not None:
            with self._guard:
                self._seen.slow.append((slow_old, slow_new))

    def _spent(self, predictor: Predictor, instance: object) -> float | None:
        """Seconds of one run; None where it fails, and where nobody waits for it any more."""
        if self._closed.is_set():
            return None
        try:
            feeds = {name: array[None] for name, array in predictor.codec.instance(instance).items()}
            started = time.perf_counter()
            predictor.run(feeds)
        # Both have answered it before; who fails now and then, fails in what is counted too.
        except Exception:  # noqa: BLE001
            return None
        return time.perf_counter() - started

    def _note_failure(self, copy: Copy, error: Exception) -> None:
        with self._guard:
            self._seen.failed.append((copy.failed, True))
            first = not self._seen.told
            self._seen.told = True
        if first:
            told = str(error) if isinstance(error, ShipworthyError) else type(error).__name__
            _LOG.warning("the challenger failed on a copy: %s", told)


class Seen:
    """What is not told yet."""

    def __init__(self) -> None:
        self.digests: list[int] = []
        self.worst: list[float] = []
        self.pairs: list[tuple[bytes, int, int]] = []
        self.failed: list[tuple[bool, bool]] = []
        self.slow: list[tuple[bool, bool]] = []
        self.lost = 0
        self.told = False

    def copies(self) -> Copies:
        joined = b"".join(unique for unique, _, _ in self.pairs)
        return Copies(
            digests=np.array(self.digests, np.uint64),
            worst=np.array(self.worst, np.float64),
            uniques=np.frombuffer(joined, np.uint8).reshape(-1, UNIQUE_BYTES),
            champion=np.array([old for _, old, _ in self.pairs], np.uint64),
            challenger=np.array([new for _, _, new in self.pairs], np.uint64),
            failed=np.array(self.failed, np.bool_).reshape(-1, 2),
            slow=np.array(self.slow, np.bool_).reshape(-1, 2),
            lost=self.lost,
        )


def _number(word: int) -> float:
    """Whose 64 bits these are."""
    return float(_FLOAT.unpack(_WORD.pack(word))[0])


def _lower_priority() -> None:
    """Of the calling thread, where the system has priorities of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
