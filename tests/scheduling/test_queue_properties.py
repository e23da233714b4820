"""Whatever happens in whatever order: no part is lost or runs twice, and all that is counted goes back to zero."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shipworthy.scheduling import Batch, Bounds, Curve, Part, Queue, Scheduler

KEYS = st.sampled_from([None, "a", "b"])


class Served(RuleBasedStateMachine):
    """Two queues of one server, called in any order that the server may call them in."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        curve = {1: 0.01, 2: 0.015, 4: 0.025, 8: 0.045}
        bounds = Bounds(requests=12, bytes=5000)
        self.queues = [Queue("x", Curve(curve), streams=2, bounds=bounds), Queue("y", Curve(curve), cores=2.0)]
        self.scheduler = Scheduler(2.0)
        for queue in self.queues:
            self.scheduler.add(queue)
        self.coming: list[tuple[Queue, int]] = []
        self.open: list[tuple[Queue, int, list[Part]]] = []
        self.waiting: list[tuple[Queue, Part]] = []
        self.running: list[Batch] = []
        self.gone: set[Part] = set()
        self.ran: set[Part] = set()

    @rule(seconds=st.floats(0.0, 0.2))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(place=st.integers(0, 1), size=st.integers(0, 3000), slack=st.floats(0.001, 0.5))
    def request(self, place: int, size: int, slack: float) -> None:
        queue = self.queues[place]
        before = (queue.requests, queue.bytes)
        refusal = queue.admit(self.now, size, self.now + slack)
        if refusal is None:
            self.coming.append((queue, size))
        else:
            assert refusal.retry_s > 0 and before[0] > 0
            assert (queue.requests, queue.bytes) == before

    @precondition(lambda self: self.coming)
    @rule(
        data=st.data(),
        parts=st.lists(st.tuples(st.integers(1, 8), st.floats(-0.05, 0.5), KEYS), max_size=4),
        life=st.sampled_from([float("inf"), 0.1]),
    )
    def body(self, data: st.DataObject, parts: list[tuple[int, float, str | None]], life: float) -> None:
        queue, size = self.coming.pop(data.draw(st.integers(0, len(self.coming) - 1)))
        queue.arrived()
        made = [
            Part(rows, self.now + slack, None, key=key, expires=self.now + life, scale=2.0 if key else 1.0)
            for rows, slack, key in parts
        ]
        for part in made:
            queue.offer(part, self.now)
            self.waiting.append((queue, part))
        self.open.append((queue, size, made))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def caller_leaves(self, data: st.DataObject) -> None:
        queue, size, parts = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        for part in parts:
            queue.withdraw(part)
            if part not in self.ran:
                self.gone.add(part)
        self.waiting = [(queue, part) for queue, part in self.waiting if part not in self.gone]
        queue.leave(size)

    @rule()
    def dispatch(self) -> None:
        while (batch := self.scheduler.next(self.now)) is not None:
            self._check(batch)
            self.running.append(batch)
        for queue in self.queues:
            for part in queue.expired:
                assert part.expires <= self.now and part not in self.ran and part not in self.gone
                self.gone.add(part)
                self.waiting.remove((queue, part))
            queue.expired.clear()

    def _check(self, batch: Batch) -> None:
        queue = batch.queue
        assert batch.parts and batch.rows == sum(part.rows for part in batch.parts) <= batch.bucket
        assert batch.bucket == queue.curve.bucket(batch.rows)
        assert len({part.key for part in batch.parts}) == 1
        for part in batch.parts:
            assert part not in self.ran and part not in self.gone and part.expires > self.now
            self.ran.add(part)
            self.waiting.remove((queue, part))
        dues = [part.due for part in batch.parts]
        assert dues == sorted(dues)
        rest = [
            part.due
            for other, part in self.waiting
            if other is queue and part.key == batch.parts[0].key and part not in queue.expired
        ]
        assert not rest or dues[-1] <= min(rest)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), seconds=st.one_of(st.none(), st.floats(1e-4, 1.0)))
    def batch_ends(self, data: st.DataObject, seconds: float | None) -> None:
        batch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.now += 0.01
        self.scheduler.done(batch, self.now, seconds)

    @invariant()
    def all_is_counted(self) -> None:
        for queue in self.queues:
            parts = [part for other, part in self.waiting if other is queue]
            assert queue.rows == sum(part.rows for part in parts)
            assert set(queue.waiting()) == set(parts)
            assert queue.requests == sum(other is queue for other, _ in self.coming) + sum(
                other is queue for other, _, _ in self.open
            )
            assert len(queue.running) == sum(batch.queue is queue for batch in self.running) <= queue.streams
            assert 0.0 < queue.share <= 1.0 and queue.margin >= 0.0
        assert sum(batch.queue.cores for batch in self.running) <= 2.0

    def teardown(self) -> None:
        """Everything comes to its end, within as many batches as there are parts."""
        while self.coming:
            queue, size = self.coming.pop()
            queue.arrived()
            queue.leave(size)
        for _ in range(len(self.waiting) + len(self.running) + 1):
            for batch in self.running:
                self.now += 0.01
                self.scheduler.done(batch, self.now, 0.01)
            self.running.clear()
            self.dispatch()
        assert not self.waiting and not self.running
        for queue, size, _ in self.open:
            queue.leave(size)
        for queue in self.queues:
            assert (queue.rows, queue.requests, queue.bytes) == (0, 0, 0)
            assert not queue._waiting.groups and not queue._waiting._order and not queue._demand.coming
            assert queue._waiting.cost == 0.0 and not any(queue._ends)
        assert self.scheduler._used == 0.0


TestServed = Served.TestCase
TestServed.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
