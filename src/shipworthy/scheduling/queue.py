"""The queue of one model: admission, earliest deadline first, and the batch that is worth running next."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count
from math import ceil, inf

from .curve import GAIN, Curve
from .demand import Demand
from .groups import Group
from .margin import Margin
from .parts import Batch, Bounds, Part, Refusal, cut
from .plan import WORTH, best

REPLAN = 16
"""The bucket to plan with is looked for anew after so many batches."""
SPLIT = 0.8
"""Work is spread over idle streams where that takes less than this share of the time on one of them."""
KEYS = 256
"""So many keys' costs are remembered."""
PACE = 2.0
"""A large request that stands beside others counts on one part in so many of the capacity."""


class Queue:
    """Requests that wait for one model, and what runs of them. A `Scheduler` gives it streams."""

    def __init__(
        self, name: str, curve: Curve, *, streams: int = 1, cores: float = 1.0, bounds: Bounds | None = None
    ) -> None:
        """`cores` are kept busy by each stream; 0 where runs are too short to matter to other models."""
        self.name = name
        self.curve = curve
        self.streams = streams
        self.cores = cores
        self.bounds = bounds or Bounds()
        self.share = 1.0
        """The part of its streams that it can count on beside other queues; set by the scheduler."""
        self.opens = 0.0
        """When others leave it a core; set by the scheduler."""
        self.served = 0.0
        """Core-seconds that it was given, by which queues are kept even."""
        self.running: list[Batch] = []
        self.rows = 0
        """Rows that wait."""
        self.requests = 0
        """Requests under way, from their admission until they leave."""
        self.bytes = 0
        """Of the bodies of these requests."""
        self.expired: list[Part] = []
        """Parts that came to their turn too late; whoever takes batches clears it."""
        self.margin = 0.0
        """Seconds before its deadline that a request has to be predicted to be answered."""
        self.planned = curve.buckets[0]
        """The bucket that it runs when it is busy."""
        self._seconds = curve.mean(self.planned)
        self._margin = Margin()
        self._demand = Demand()
        self._groups: dict[Hashable, Group] = {}
        self._order: list[tuple[float, int, Group]] = []
        self._factors: dict[Hashable, float] = {}
        self._cost = 0.0
        self._latest = -inf
        self._ends = [0.0] * streams
        self._overdue = inf
        self._numbers = count()
        self._replan = 0
        self.plan()

    def admit(self, now: float, size: int, due: float) -> Refusal | None:
        """Take a request on, or say why not. It keeps its place until `leave`.

        `size` is its body's in bytes, and `due` when it should be answered. A request that finds an idle stream and
        nobody before it is never refused for its time, and one that would be alone not for its size: nothing could
        serve it sooner."""
        if self._demand.see(due - now):
            self.plan()
        if self.requests:
            if self.requests >= self.bounds.requests:
                return Refusal("requests", self._seconds)
            if self.bytes + size > self.bounds.bytes:
                return Refusal("bytes", self._seconds)
            if self.rows or self._demand.coming or len(self.running) >= self.streams:
                late = self.predict(now, 1, due) + self.margin - due
                self._margin.decided(late > 0.0)
                if late > 0.0:
                    return Refusal("deadline", late)
        self.requests += 1
        self.bytes += size
        self._demand.coming.append(now)
        return None

    def arrived(self) -> None:
        """What an admitted request asks for is known: its parts are offered from now on, or it is given up."""
        self._demand.arrived()

    def leave(self, size: int) -> None:
        """An admitted request is answered or given up."""
        self.requests -= 1
        self.bytes -= size

    def predict(self, now: float, rows: int, due: float) -> float:
        """When `rows` would be answered that come now: what runs, and what is due sooner, goes first."""
        seconds, bucket, streams = self._seconds, self.planned, self.streams
        ahead = self._cost if due >= self._latest else self._sooner(due)
        if self._demand.coming:
            ahead += self._demand.work(now - 4.0 * self._seconds, bucket) * seconds / bucket
        lap = int(ahead / seconds)
        ends = self._ends if self._overdue >= now else self._guess(now)
        end = ends[lap] if lap < streams else ends[lap % streams] + lap // streams * seconds
        if end < self.opens:
            end = self.opens
        if end <= now:
            return now + self.curve.mean(self.curve.bucket(min(bucket, rows + ahead / seconds * bucket)))
        return now + (end - now) / self.share + max(seconds, self.curve.mean(self.curve.bucket(rows)))

    def offer(self, part: Part, now: float) -> None:
        """Let a part wait for its turn."""
        part.state = "waiting"
        part.queued = now
        group = self._groups.get(part.key)
        if group is None:
            factor = part.scale if part.key is None else self._factors.get(part.key, part.scale)
            group = self._groups[part.key] = Group(part.key, factor)
        rows = part.rows
        if group.put(part):
            heappush(self._order, (part.due, next(self._numbers), group))
        self.rows += rows
        self._recost(group)
        self._demand.offered(rows * group.factor)
        if part.due > self._latest:
            self._latest = part.due

    def cut(self, rows: int, due: float) -> list[tuple[int, float]]:
        """How to divide a request: the rows of each part, and when it is due."""
        return cut(rows, due, self.planned, PACE * self._seconds / (self.streams * self.share))

    def waiting(self) -> list[Part]:
        """The parts that wait, by key and then by their time."""
        return [part for group in self._groups.values() for part in group.parts]

    def withdraw(self, part: Part) -> None:
        """Nobody wants this part any more. What runs already runs on."""
        if part.state == "waiting":
            group = self._groups[part.key]
            group.pull(part)
            self.rows -= part.rows
            self._settle(group)
        part.state = "gone"

    def take(self, now: float, idle: int = 1, longest: float = inf) -> Batch | None:
        """The batch that should run next, None where nothing waits.

        `idle` streams wait for work, this one among them. No run should be longer than `longest` seconds, if one row
        can be done in that time."""
        while (group := self._next()) is not None:
            if group.parts[0].expires <= now:
                self._expire(group, now)
                continue
            bucket = self._worth(group, now, idle, longest)
            parts = group.first(bucket)
            rows = 0
            for part in parts:
                part.state = "running"
                rows += part.rows
            self.rows -= rows
            bucket = self.curve.bucket(rows)
            others = len(self.running)
            seconds = self.curve.mean(bucket) * self.curve.beside(others) * group.factor
            batch = Batch(self, parts, rows, bucket, now, now + seconds, group, others)
            self._settle(group)
            self.running.append(batch)
            self._streams()
            return batch
        return None

    def done(self, batch: Batch, now: float, seconds: float | None) -> None:
        """A batch has ended at `now`; its run took `seconds`, None where it failed."""
        self.running.remove(batch)
        self._streams()
        if seconds is None:
            return
        group, curve = batch.group, self.curve
        if group.key is not None:
            self._learn(group, seconds / (batch.expected - batch.started))
        curve.observe(batch.bucket, seconds / group.factor, batch.others)
        self._replan -= 1
        if self._replan <= 0:
            self.plan()
        self._seconds = curve.mean(self.planned) * curve.beside(self.streams - 1)
        self._judge(batch, now)

    def plan(self) -> None:
        """Look anew for the bucket to run when it is busy."""
        self.planned = best(self.curve, self._demand.slacks, self.streams * self.share, self.planned)
        self._seconds = self.curve.mean(self.planned) * self.curve.beside(self.streams - 1)
        self.margin = self._margin.factor * self._seconds
        self._replan = REPLAN

    @property
    def patience(self) -> float:
        """Seconds that a typical request can wait for a core."""
        slacks = self._demand.slacks
        return sorted(slacks)[len(slacks) // 2] - self._seconds if slacks else inf

    def _judge(self, batch: Batch, now: float) -> None:
        """Learn from those that had little to spare."""
        near = now + self.margin + self._seconds
        if batch.parts[0].due < near:
            tight = late = 0
            for part in batch.parts:
                if part.due < near:
                    tight += 1
                    late += part.due < now
            self._margin.observe(late / tight)
        self.margin = self._margin.factor * self._seconds

    def _worth(self, group: Group, now: float, idle: int, longest: float) -> int:
        """The bucket that answers the most rows a second in time, up to the planned one.

        Where every row would be late whatever runs, the one that answers the most rows."""
        curve, factor = self.curve, group.factor
        rows = group.rows
        if idle > 1 and rows > 1:
            spread = curve.bucket(ceil(rows / idle))
            if curve.mean(spread) < SPLIT * curve.mean(curve.bucket(rows)):
                rows = spread
        slower = factor * curve.beside(len(self.running))
        sure = 1.0
        chosen, best_rate, fast, fast_rate = 0, 0.0, 0, 0.0
        for bucket in curve.buckets:
            seconds = curve.mean(bucket) * slower
            if fast and (bucket > self.planned or seconds > longest):
                break
            full = min(rows, bucket)
            timely = full - group.late(now + seconds * sure, full)
            # What was planned for a full queue is no matter of chance.
            worth = seconds if bucket == self.planned <= rows else seconds * WORTH
            if timely > best_rate * worth:
                chosen, best_rate = bucket, timely / seconds
            if full > fast_rate * worth:
                fast, fast_rate = bucket, full / seconds
            if bucket >= rows:
                break
        return chosen or fast

    def _next(self) -> Group | None:
        """The group whose first part is due soonest."""
        order = self._order
        while order:
            due, _, group = order[0]
            if group.dues and group.dues[0] == due:
                return group
            heappop(order)
        self._latest = -inf
        return None

    def _expire(self, group: Group, now: float) -> None:
        for part in group.expire(now):
            part.state = "gone"
            self.rows -= part.rows
            self.expired.append(part)
        self._settle(group)

    def _settle(self, group: Group) -> None:
        """Something has left a group."""
        self._recost(group)
        if group.dues:
            heappush(self._order, (group.dues[0], next(self._numbers), group))
        else:
            del self._groups[group.key]
            if not self._groups:
                self._cost = 0.0
                self._order.clear()
                self._latest = -inf

    def _recost(self, group: Group) -> None:
        """Rows of one key fill batches; with several keys, those that are left over make a batch of their own."""
        if group.rows >= self.planned or len(self._groups) == 1:
            cost = group.rows * self._seconds / self.planned
        else:
            cost = self.curve.mean(self.curve.bucket(group.rows)) if group.rows else 0.0
        cost *= group.factor
        self._cost += cost - group.cost
        group.cost = cost

    def _sooner(self, due: float) -> float:
        """Seconds of one stream that those rows take which wait and are due no later."""
        return sum(group.cost * group.sooner(due) / group.rows for group in self._groups.values())

    def _learn(self, group: Group, ratio: float) -> None:
        """What the rows of a key cost, of which the newest `KEYS` are remembered."""
        factor = self._factors.pop(group.key, group.factor)
        group.factor = self._factors[group.key] = factor * (1.0 + GAIN * (min(2.0, max(0.5, ratio)) - 1.0))
        if len(self._factors) > KEYS:
            del self._factors[next(iter(self._factors))]

    def _streams(self) -> None:
        """When each stream should be free; 0 where it is."""
        ends = [batch.expected for batch in self.running]
        ends.sort()
        self._overdue = ends[0] if ends else inf
        idle = self.streams - len(ends)
        self._ends = [0.0] * idle + ends if idle > 0 else ends

    def _guess(self, now: float) -> list[float]:
        """The same where a batch takes longer than expected: it may take as much longer as it has taken already."""
        ends = [max(batch.expected, 2.0 * now - batch.expected) for batch in self.running]
        ends.sort()
        return [0.0] * (self.streams - len(ends)) + ends
