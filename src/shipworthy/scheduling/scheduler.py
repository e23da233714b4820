"""Which model runs next where several want the same cores."""

from __future__ import annotations

from math import exp, inf

from .parts import Batch
from .queue import Queue

MEMORY = 1.0
"""Seconds over which is averaged how many cores a queue uses."""
IDLE = 0.01
"""Cores; who uses less does not count."""
RECENT = 5.0
"""A queue that ran within so many seconds is taken into account by the others."""


class Usage:
    """Cores that a queue kept busy lately."""

    __slots__ = ("_at", "_value")

    def __init__(self) -> None:
        self._at = -inf
        self._value = 0.0

    def add(self, core_seconds: float, now: float) -> None:
        self._value = self.cores(now) + core_seconds / MEMORY
        self._at = now

    def cores(self, now: float) -> float:
        return self._value * exp((self._at - now) / MEMORY) if self._value else 0.0

    def recent(self, now: float) -> bool:
        return now - self._at < RECENT


class Scheduler:
    """Gives the cores of a server to its queues, so that each that has work gets an even share of their time.

    The queue that was served least has its turn (start-time fair queueing, Goyal and others 1996): one that had nothing
    to do does not save up time, and one whose batch does not fit beside what runs waits until it does, so that nothing
    overtakes it."""

    def __init__(self, cores: float) -> None:
        self._cores = cores
        self._used = 0.0
        self._clock = 0.0
        self._queues: dict[Queue, Usage] = {}
        self._only: Queue | None = None
        self._wide = 0
        """Queues whose batches keep cores busy."""

    def add(self, queue: Queue) -> None:
        """Serve a queue from now on."""
        queue.served = self._clock
        self._queues[queue] = Usage()
        self._wide += queue.cores > 0.0
        self._only = queue if len(self._queues) == 1 else None

    def remove(self, queue: Queue) -> None:
        """Forget a queue that is empty."""
        del self._queues[queue]
        self._wide -= queue.cores > 0.0
        self._only = None
        if len(self._queues) == 1:
            self._only = next(iter(self._queues))
            self._only.share, self._only.opens, self._only.turn = 1.0, 0.0, 0.0

    def next(self, now: float, *, threaded: bool = False) -> Batch | None:
        """The batch that should start now; None where nothing waits or no core is free. Asked until it is None.

        `threaded`: only of queues that keep cores busy, whose batches run in threads."""
        while (queue := self._turn(threaded)) is not None:
            cores = queue.cores
            idle = queue.streams - len(queue.running)
            if cores:
                free = self._cores - self._used
                # What is wider than the host runs alone.
                if free < cores and self._used:
                    return None
                idle = max(1, min(idle, int(free / cores)))
            others = self._wide - 1 if cores else self._wide
            longest = self._longest(queue, now) if others else inf
            batch = queue.take(now, idle, longest)
            if batch is None:
                continue
            self._used += cores
            # An idle queue has not saved up what it did not use.
            if queue.served < self._clock:
                queue.served = self._clock
            self._clock = queue.served
            queue.served += cores * (batch.expected - now)
            if cores and self._only is None:
                self._even(now)
            return batch
        return None

    def done(self, batch: Batch, now: float, seconds: float | None, spent: float | None = None) -> None:
        """A batch has ended; its run took `seconds`, None where it failed.

        `spent` are the seconds that its stream was busy, where these are others: parts of a batch that failed run again
        in smaller ones. They count for its share of the cores, and say nothing of what a batch costs."""
        queue = batch.queue
        self._used -= queue.cores
        if not self._used > 1e-9:
            self._used = 0.0
        queue.done(batch, now, seconds)
        if spent is None:
            spent = seconds
        if queue.cores and spent is not None:
            queue.served += queue.cores * (spent - (batch.expected - batch.started))
            self._queues[queue].add(queue.cores * spent, now)
        # What needs no core changes nothing for those that do.
        if queue.cores and self._only is None:
            self._even(now)

    def _turn(self, threaded: bool) -> Queue | None:
        first: Queue | None = None
        for queue in self._queues:
            # In this order, because most queues of most servers are idle.
            if queue.rows and len(queue.running) < queue.streams and (queue.cores > 0.0 or not threaded):
                first = queue if first is None else min(first, queue, key=self._due)
        return first

    def _due(self, queue: Queue) -> tuple[bool, float]:
        # What needs no core waits for none.
        return queue.cores > 0.0, max(queue.served, self._clock)

    def _longest(self, queue: Queue, now: float) -> float:
        """How long others can wait for a core; they should not miss their deadlines for a large batch."""
        patience = [
            other.plan.patience
            for other, usage in self._queues.items()
            if other is not queue and other.cores and (other.rows or other.running or usage.recent(now))
        ]
        return min(patience, default=inf)

    def _even(self, now: float) -> None:
        """What each queue can count on while the others have work too: an even share, and what they leave."""
        used = {queue: usage.cores(now) for queue, usage in self._queues.items() if queue.cores}
        active = [queue for queue, cores in used.items() if queue.rows or queue.running or cores > IDLE]
        total = sum(used.values())
        ends = sorted((batch.expected, queue.cores) for queue in used for batch in queue.running)
        for queue, cores in used.items():
            fair = max(self._cores / max(1, len(active)), self._cores - (total - cores))
            queue.share = min(1.0, max(fair, 0.01) / (queue.cores * queue.streams))
            queue.turn = max((other.plan.seconds for other in active if other is not queue), default=0.0)
            free = self._cores - self._used
            queue.opens = 0.0
            for end, freed in ends:
                if free >= queue.cores:
                    break
                free += freed
                queue.opens = end
