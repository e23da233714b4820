"""The queue of one model: admission, earliest deadline first, and the batch that is worth running next."""

from __future__ import annotations

from math import inf

from .curve import Curve
from .demand import Demand
from .margin import Margin
from .parts import Batch, Bounds, Part, Refusal, cut
from .plan import Plan
from .waiting import Waiting

REPLAN = 16
"""The bucket to plan with is looked for anew after so many batches."""
PACE = 3.0
"""Large requests that stand beside others count together on one part in so many of the capacity."""
PATIENT = 0.5
"""Of the time that a request leaves beyond that of impatient ones, this part counts at its admission: others will come
later and go first."""
EASY = 0.5
"""Where what waits takes less than this share of the usual time, a request is taken on without a closer look."""
BODY = 4.0
"""A body that takes longer than so many batches is not waited for."""


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
        self.turn = 0.0
        """Seconds that the longest run of another takes; set by the scheduler."""
        self.served = 0.0
        """Core-seconds that it was given, by which queues are kept even."""
        self.running: list[Batch] = []
        self.requests = 0
        """Requests under way, from their admission until they leave."""
        self.bytes = 0
        """Of the bodies of these requests."""
        self.expired: list[Part] = []
        """Parts that came to their turn too late; whoever takes batches clears it."""
        self.margin = 0.0
        """Seconds before its deadline that a request has to be predicted to be answered."""
        self.plan = Plan(curve, streams)
        self._margin = Margin()
        self._demand = Demand()
        self._waiting = Waiting(self.plan)
        self._ends = [0.0] * streams
        self._overdue = inf
        self._usual = self._each = self._easy = 0.0
        self._batches = 0
        self._renew()

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._waiting.rows

    def admit(self, now: float, size: int, due: float) -> Refusal | None:
        """Take a request on, or say why not. It keeps its place until `leave`.

        `size` is its body's in bytes, and `due` when it should be answered. A request that finds an idle stream and
        nobody before it is never refused for its time, and one that would be alone not for its size: nothing could
        serve it sooner."""
        demand, slack = self._demand, due - now
        if demand.see(slack):
            self._renew()
        if self.requests:
            if self.requests >= self.bounds.requests:
                return Refusal("requests", self.plan.seconds)
            if self.bytes + size > self.bounds.bytes:
                return Refusal("bytes", self.plan.seconds)
            coming = demand.coming
            if (
                self._waiting.cost + len(coming) * self._each < self._easy
                and slack >= self._usual
                and self._overdue >= now
            ):
                self._margin.decided(False)
            elif self._waiting.rows or coming or len(self.running) >= self.streams:
                late = self.predict(now, 1, due) + self.margin - due
                if slack > self.plan.short:
                    late += (slack - self.plan.short) * PATIENT
                backlog = self._waiting.cost / (self.streams * self.share) - self.bounds.seconds
                if backlog > late:
                    late = backlog
                self._margin.decided(late > 0.0)
                if late > 0.0:
                    return Refusal("deadline", late)
        self.requests += 1
        self.bytes += size
        demand.coming.append(now)
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
        seconds, bucket, streams = self.plan.seconds, self.plan.bucket, self.streams
        ahead = self._waiting.sooner(due)
        if self._demand.coming:
            ahead += self._demand.work(now - BODY * seconds, bucket) * seconds / bucket
        opens = self.opens if self.opens > now else now
        if self.share < 1.0:
            work = ahead + sum(batch.expected - now for batch in self.running if batch.expected > now)
            # Between two of its own batches others have their turn.
            start = now + work / (streams * self.share) + (self.turn if work else 0.0)
            if start < opens:
                start = opens
        else:
            lap = int(ahead / seconds)
            ends = self._ends if self._overdue >= now else self._guess(now)
            start = ends[lap % streams]
            if start < opens:
                start = opens
            start += lap // streams * seconds
        if start <= now:
            return now + self.curve.mean(self.curve.bucket(min(bucket, rows + ahead / seconds * bucket)))
        return start + max(seconds, self.curve.mean(self.curve.bucket(rows)))

    def cut(self, rows: int, due: float) -> list[tuple[int, float]]:
        """How to divide a request: the rows of each part, and when it is due."""
        pace = PACE / (self.streams * self.share)
        return cut(rows, due, self.plan.bucket, pace * self.plan.seconds, pace * self._waiting.cost)

    def offer(self, part: Part, now: float) -> None:
        """Let a part wait for its turn."""
        part.state = "waiting"
        part.queued = now
        self._demand.offered(part.rows * self._waiting.put(part).factor)

    def waiting(self) -> list[Part]:
        """The parts that wait, by key and then by their time."""
        return [part for group in self._waiting.groups.values() for part in group.parts]

    def withdraw(self, part: Part) -> None:
        """Nobody wants this part any more. What runs already runs on."""
        if part.state == "waiting":
            self._waiting.pull(part)
        part.state = "gone"

    def take(self, now: float, idle: int = 1, longest: float = inf) -> Batch | None:
        """The batch that should run next, None where nothing waits.

        `idle` streams wait for work, this one among them. No run should be longer than `longest` seconds, if one row
        can be done in that time."""
        waiting, running, curve = self._waiting, self.running, self.curve
        while (group := waiting.next()) is not None:
            if group.parts[0].expires <= now:
                gone = waiting.expire(group, now)
                for part in gone:
                    part.state = "gone"
                self.expired += gone
                continue
            others = len(running)
            parts, rows = waiting.take(group, self.plan.worth(group, now, others, idle, longest))
            for part in parts:
                part.state = "running"
            bucket = curve.bucket(rows)
            seconds = curve.mean(bucket) * curve.beside(others) * group.factor
            batch = Batch(self, parts, rows, bucket, now, now + seconds, group, others)
            running.append(batch)
            self._look()
            return batch
        return None

    def done(self, batch: Batch, now: float, seconds: float | None) -> None:
        """A batch has ended at `now`; its run took `seconds`, None where it failed."""
        self.running.remove(batch)
        self._look()
        if seconds is not None:
            self._learn(batch, seconds)
        self._judge(batch, now)

    def _learn(self, batch: Batch, seconds: float) -> None:
        group = batch.group
        if group.key is not None:
            self._waiting.learn(group, seconds / (batch.expected - batch.started))
        self.curve.observe(batch.bucket, seconds / group.factor, batch.others)
        self._batches += 1
        if self._batches % REPLAN:
            self.plan.refresh()
        else:
            self._renew()

    def _renew(self) -> None:
        plan = self.plan
        plan.renew(self._demand.slacks, self.share, self._margin)
        self.margin = self._margin.factor * plan.seconds
        self._usual = plan.usual
        self._each = self._demand.rows() * plan.seconds / plan.bucket
        spare = plan.usual * EASY - self.margin - 2.0 * plan.seconds
        self._easy = self.streams * spare if self.share == 1.0 and self.opens == 0.0 else 0.0

    def _judge(self, batch: Batch, now: float) -> None:
        """Learn from those that had little to spare."""
        near = now + self.margin + self.plan.seconds
        if batch.parts[0].due < near:
            tight = late = 0
            for part in batch.parts:
                if part.due < near:
                    tight += 1
                    late += part.due < now
            self._margin.observe(late / tight)
        self.margin = self._margin.factor * self.plan.seconds

    def _look(self) -> None:
        """When each stream should be free; 0 where it is."""
        ends = [batch.expected for batch in self.running]
        ends.sort()
        self._overdue = ends[0] if ends else inf
        self._ends = [0.0] * (self.streams - len(ends)) + ends

    def _guess(self, now: float) -> list[float]:
        """The same where a batch takes longer than expected: it may take as much longer as it has taken already."""
        ends = [max(batch.expected, 2.0 * now - batch.expected) for batch in self.running]
        ends.sort()
        return [0.0] * (self.streams - len(ends)) + ends
