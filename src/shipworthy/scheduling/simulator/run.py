"""The simulation: events in the order of their time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

import numpy as np

from ..parts import Part
from .model import Load, Model
from .policies import Door, Policy
from .result import Result, Served

ARRIVES, OFFERS, LEAVES, ENDS, WAKES = range(5)


class Request:
    """One request on its way."""

    __slots__ = ("at", "door", "due", "end", "expires", "load", "model", "parts", "state", "unfinished")

    def __init__(self, at: float, model: int, load: int, spec: Load) -> None:
        self.at = at
        self.model = model
        self.load = load
        self.due = at + min(spec.target, spec.timeout or spec.target)
        self.expires = at + spec.timeout if spec.timeout is not None else float("inf")
        self.parts: list[Part] = []
        self.unfinished = 0
        self.state = "new"
        self.end = 0.0


class Simulation:
    """Models, a policy, and what has happened so far."""

    def __init__(self, models: Sequence[Model], policy: Policy, *, seconds: float, seed: int, cores: float) -> None:
        self.models = models
        self.serving = policy.serve(models, cores)
        self.seconds = seconds
        self.cores = cores
        self.random = Random(seed)
        self.requests: list[Request] = []
        self.batches: list[Counter[int]] = [Counter() for _ in models]
        self.core_seconds = [0.0] * len(models)
        self.busy = [0] * len(models)
        self._doors: dict[int, Door] = dict(enumerate(self.serving.doors))
        self._events: list[tuple[float, int, int, Any]] = []
        self._numbers = count()
        self._wakes = float("inf")
        self._sources: list[Iterator[float]] = []
        for place, model in enumerate(models):
            for number, load in enumerate(model.loads):
                # A generator of its own: what comes does not depend on what the policy does with it.
                arrivals = load.arrivals(seconds, Random(f"{seed} {place} {number}"))
                self._sources.append(arrivals)
                self._draw(len(self._sources) - 1, place, number)
                for client in range(load.clients):
                    self._push(load.start + client * 1e-6, ARRIVES, (None, place, number))

    def run(self) -> None:
        events = self._events
        while events:
            now = events[0][0]
            # What happens at one time is all there before the policy is asked.
            while events and events[0][0] == now:
                _, _, kind, subject = heappop(events)
                if kind == ARRIVES:
                    self._arrive(now, *subject)
                elif kind == OFFERS:
                    self._offer(now, subject)
                elif kind == ENDS:
                    self._end(now, *subject)
                elif kind == LEAVES:
                    self._leave(now, subject)
                else:
                    self._wakes = float("inf")
            self._dispatch(now)

    def _push(self, at: float, kind: int, subject: Any) -> None:
        heappush(self._events, (at, next(self._numbers), kind, subject))

    def _draw(self, source: int, model: int, load: int) -> None:
        at = next(self._sources[source], None)
        if at is not None:
            self._push(at, ARRIVES, (source, model, load))

    def _arrive(self, now: float, source: int | None, model: int, load: int) -> None:
        if source is not None:
            self._draw(source, model, load)
        spec = self.models[model].loads[load]
        request = Request(now, model, load, spec)
        self.requests.append(request)
        refusal = self._doors[model].admit(now, spec.size, request.due)
        if refusal is not None:
            request.state = refusal.reason
            self._again(now + max(refusal.retry_s, 1e-3), request)
            return
        request.state = "coming"
        if spec.leave and self.random.random() < spec.leave:
            self._push(now + self.random.random() * spec.target, LEAVES, request)
        if spec.body:
            self._push(now + self.random.expovariate(1.0 / spec.body), OFFERS, request)
        else:
            self._offer(now, request)

    def _offer(self, now: float, request: Request) -> None:
        if request.state != "coming":
            return
        door, spec = self._doors[request.model], self.models[request.model].loads[request.load]
        request.state = "waiting"
        door.arrived()
        cuts = [(1, request.due)] if spec.rows == 1 else door.cut(spec.rows, request.due)
        request.unfinished = len(cuts)
        # A request of many rows is given the time that its own work takes.
        request.due = cuts[-1][1]
        for rows, due in cuts:
            part = Part(rows, due, request, key=spec.key, expires=request.expires, scale=spec.scale)
            request.parts.append(part)
            door.offer(part, now)

    def _leave(self, now: float, request: Request) -> None:
        if request.state not in ("coming", "waiting"):
            return
        door = self._doors[request.model]
        if request.state == "coming":
            door.arrived()
        for part in request.parts:
            door.withdraw(part)
        self._finish(now, request, "left")

    def _finish(self, now: float, request: Request, state: str) -> None:
        request.state = state
        request.end = now
        self._doors[request.model].leave(self.models[request.model].loads[request.load].size)
        self._again(now, request)

    def _again(self, at: float, request: Request) -> None:
        spec = self.models[request.model].loads[request.load]
        if spec.clients and at < min(self.seconds, spec.stop):
            self._push(at, ARRIVES, (None, request.model, request.load))

    def _dispatch(self, now: float) -> None:
        serving = self.serving
        while (batch := serving.next(now)) is not None:
            first: Request = batch.parts[0].payload
            model = first.model
            engine = self.models[model].engine
            crowd = engine.cores + sum(
                busy * other.engine.cores for busy, other in zip(self.busy, self.models, strict=True)
            )
            seconds = engine.duration(
                batch.bucket, batch.parts[0].key, self.busy[model], crowd / self.cores, now, self.random
            )
            self.busy[model] += 1
            self.batches[model][batch.bucket] += 1
            self.core_seconds[model] += seconds * engine.cores
            self._push(now + seconds, ENDS, (batch, model, seconds))
        for door in serving.doors:
            for part in door.expired:
                if part.payload.state == "waiting":
                    for other in part.payload.parts:
                        door.withdraw(other)
                    self._finish(now, part.payload, "expired")
            door.expired.clear()
        wake = serving.wake(now)
        if wake is not None and now < wake < self._wakes:
            self._wakes = wake
            self._push(wake, WAKES, None)

    def _end(self, now: float, batch: Any, model: int, seconds: float) -> None:
        self.busy[model] -= 1
        self.serving.done(batch, now, seconds)
        for part in batch.parts:
            request: Request = part.payload
            request.unfinished -= 1
            if not request.unfinished and request.state == "waiting":
                self._finish(now, request, "answered")


def simulate(
    models: Sequence[Model],
    policy: Policy,
    *,
    seconds: float = 30.0,
    warmup: float = 2.0,
    seed: int = 0,
    cores: float = 2.0,
) -> Result:
    """Serve `models` for `seconds` of simulated time on a host of so many cores, and say what became of the requests
    that came after the `warmup`. What is under way at the end is finished."""
    simulation = Simulation(models, policy, seconds=seconds, seed=seed, cores=cores)
    simulation.run()
    counted = [request for request in simulation.requests if request.at >= warmup]
    names = [model.name for model in models]

    def served(model: int, load: int | None) -> Served:
        chosen = [r for r in counted if r.model == model and load in (None, r.load)]
        answered = [r for r in chosen if r.state == "answered"]
        refused = Counter(r.state for r in chosen if r.state in ("deadline", "requests", "bytes"))
        return Served(
            seconds=seconds - warmup,
            offered=len(chosen),
            refused=dict(refused),
            expired=sum(r.state == "expired" for r in chosen),
            left=sum(r.state == "left" for r in chosen),
            in_time=sum(r.end <= r.due for r in answered),
            latencies=np.array([r.end - r.at for r in answered]),
        )

    return Result(
        models={name: served(place, None) for place, name in enumerate(names)},
        loads={
            model.name: tuple(served(place, number) for number in range(len(model.loads)))
            for place, model in enumerate(models)
        },
        batches={name: dict(batches) for name, batches in zip(names, simulation.batches, strict=True)},
        core_seconds=dict(zip(names, simulation.core_seconds, strict=True)),
    )
