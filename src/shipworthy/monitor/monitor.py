"""One watched version on one node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from ..contract import Array, Arrays
from ..errors import MonitorError
from ..signals import Signals, watch
from ..signals.reference import Reference
from . import baselines, raising, state, viewing
from .alarms import Acknowledgement, Alarms, alarm_id
from .collecting import Collecting
from .compared import Compared
from .drift import Step
from .groups import Group, Rows, Times, group_of, per_row
from .opened import Watched, opened
from .options import MonitorOptions
from .samples import Samples
from .samples_file import read_samples, write_samples
from .timeline import Timeline
from .view import Alarm, View


class Monitor:
    """Watches the answers of a model for drift.

    `update` takes what was asked and answered; `check` shows what there is to see. Memory and state are bounded,
    however many rows come. Not for several threads at once.

        monitor = Monitor("digits.ship")
        monitor.update({"image": images}, {"logits": logits})
        print(monitor.check())
    """

    def __init__(
        self,
        watched: Watched,
        *,
        options: MonitorOptions | None = None,
        variant: str | None = None,
        model: str | None = None,
        version: str = "",
        node: str = "",
        quality: Callable[[View], View] | None = None,
        clock: Literal["time", "rows"] = "time",
    ) -> None:
        """`watched`: a package's path or the open package, or its contract and the reference of the variant that
        answers; `variant` is by default the package's first. `quality` adds what labels have shown to a view. With the
        clock `rows`, times are places in a file.

        Raises PackageError where the package is refused, MonitorError where it has no reference, and none is to be
        taken from the first requests."""
        self.options = options or MonitorOptions()
        self.contract, self.own, self.variant, digest = opened(watched, variant)
        self.model = model or self.contract.name
        self.version = version or digest
        self.node = node
        self.clock = clock
        self.quality = quality
        self.alarms = Alarms()
        self.timeline = Timeline(steady=clock == "rows")
        self.seen = 0
        """Rows that came here: those that were scored, and those that became the reference."""
        self.scored = 0
        """Rows that were scored."""
        self.requests = 0
        """Rows that were answered while it was watched; at least those that were scored."""
        self.unscored = 0
        """Rows that were chosen and lost."""
        self.renewed: set[str] = set()
        """Alarms whose acknowledgement a new baseline was taken for."""
        self.since: float | None = None
        self.updated = 0.0
        self.seed = int(alarm_id(self.model, self.version, self.node), 16)
        self.compared: Compared | None = None
        self.collecting: Collecting | None = None
        self.signals: Signals | None = None
        self.constants: dict[str, Array] = {}
        self.samples = Samples(0, "", confidence=None)
        self.towards = np.zeros(0, np.int64)
        """In which direction the signals of an alarm that stands have moved, [signals]."""
        if self.options.baseline:
            self.collect_baseline(self.options.baseline)
        elif self.own is None:
            remedy = "build it again, or take the first requests as the reference: MonitorOptions(baseline=1000)"
            raise MonitorError(self.model, "has no reference to compare with", remedy)
        else:
            self.follow(self.own, self.compared_with(self.own))

    def update(
        self, feeds: Arrays | Array, outputs: Arrays | Array, at: Times = None, latency_s: Times = None
    ) -> list[Alarm]:
        """Score rows in the order of their arrival: inputs [n, ...] and outputs [n, ...] by name; the bare array will
        do where there is one. `at`: when they were answered, seconds since 1970, by default now; `latency_s`: how long
        each took. Both are one number, or one for each row. Gives the alarms that they raise.

        Raises MonitorError where names or lengths do not fit."""
        group = group_of(feeds, outputs, self.contract.inputs, self.contract.outputs)
        return self.update_groups([group], at, latency_s)

    def update_groups(self, groups: Sequence[Group], at: Times = None, latency_s: Times = None) -> list[Alarm]:
        """The same for rows whose shapes differ; `at` and `latency_s` are in the order of all rows."""
        rows = Rows(groups)
        if not len(rows):
            return []
        times = per_row(time.time() if at is None else at, len(rows), "at")
        if not np.isfinite(times).all():
            raise MonitorError("at", "is not finite", "give seconds since 1970")
        seconds = per_row(np.nan if latency_s is None else latency_s, len(rows), "latency_s")
        self.seen += len(rows)
        self.since = float(times[0]) if self.since is None else self.since
        self.updated = float(times[-1])
        done = baselines.collected(self, rows) if self.collecting is not None else 0
        found: list[Alarm] = []
        if done == len(rows) or self.signals is None:
            return found
        rows, times, seconds = rows.between(done, len(rows)), times[done:], seconds[done:]
        values = rows.values(self.signals)
        start = 0
        while start < len(values):
            assert self.compared is not None
            stop = min(len(values), start + self.compared.drift.room)
            found += self._score(rows, start, values[start:stop], times[start:stop], seconds[start:stop])
            start = stop
        return found

    def count(self, requests: int, unscored: int = 0) -> None:
        """So many more rows were answered; so many of the chosen ones were lost on their way here."""
        self.requests += requests
        self.unscored += unscored

    def set_baseline(self, feeds: Arrays | Array, outputs: Arrays | Array) -> None:
        """What is right is from now on what these rows are. Alarms of drift that stand are acknowledged by it.

        Raises MonitorError below 32 rows, and where names or lengths do not fit."""
        baselines.take(self, Rows([group_of(feeds, outputs, self.contract.inputs, self.contract.outputs)]))

    def collect_baseline(self, samples: int = 1000) -> None:
        """Take so many of the next rows as the reference; until then no alarm is raised. Raises MonitorError below
        32."""
        baselines.collect(self, samples)

    def renew(self, said: Iterable[Acknowledgement]) -> bool:
        """Take a new baseline where somebody has asked for one who has seen to an alarm, here or on another node: once
        for each alarm, and as large as was asked for last. Whether one is taken now."""
        return baselines.renew(self, said)

    def check(self, now: float | None = None) -> View:
        """All that there is to see. An alarm of the quality that labels raise is remembered."""
        view = viewing.view_of(self, self.now(now))
        if self.quality is None:
            return view
        view = self.quality(view)
        for alarm in view.alarms:
            self.remember(alarm)
        return view

    def remember(self, alarm: Alarm) -> None:
        """An alarm that labels have raised, which stands until somebody acknowledges it; one that is known already
        stays as it is."""
        if alarm.detector == "quality" and alarm.id not in self.alarms:
            self.alarms.add(alarm)

    def acknowledge(self, alarm: str, who: str, why: str = "", at: float | None = None) -> bool:
        """Somebody has seen to an alarm: its detector begins anew. False where no alarm of this id stands."""
        found = self.alarms.acknowledge(alarm, self.now(at), who, why)
        if found is not None and self.compared is not None and found.detector != "quality":
            self.compared.drift.reset(window=found.detector == "window")
            if not self.alarms.drifted:
                self.towards = np.zeros_like(self.towards)
        return found is not None

    def state(self) -> bytes:
        """All but the samples, for `restore`. With `keep=0` no value of a request is in it, but those of a reference
        that was taken from requests: sorted, each signal by itself."""
        return state.written(self)

    def restore(self, data: bytes) -> None:
        """Go on where `state` was taken, before anything else is done: the evidence is the same as if it had not
        stopped.

        Raises MonitorError where the bytes are damaged, or of a monitor with another reference."""
        state.restore(self, data)

    def samples_state(self) -> bytes:
        """The samples that are kept, for `restore_samples` and for `export`; empty where there are none."""
        return write_samples(list(self.samples), self._names, self.contract) if len(self.samples) else b""

    def restore_samples(self, data: bytes) -> None:
        """Keep those of `samples_state` too, after `restore`. Raises MonitorError where the bytes are damaged."""
        found = read_samples(data, "the samples")
        if list(found.signals) != self._names:
            raise MonitorError("the samples", "have other signals than are computed", "remove them")
        for sample in found.samples:
            self.samples.put_back(sample)

    @property
    def _names(self) -> list[str]:
        return [] if self.signals is None else [signal.name for signal in self.signals.signals]

    def compared_with(self, reference: Reference) -> Compared:
        """What is computed against a reference, at its beginning. Raises MonitorError where it is too small."""
        return Compared.of(reference, self.options, self.seed)

    def follow(self, reference: Reference, compared: Compared) -> None:
        """Compare with this reference from now on."""
        self.signals = watch(self.contract, reference, f"the reference of {self.model}")
        self.constants = reference.constants
        self.compared = compared
        self.collecting = None
        signals = len(reference.signals)
        self.towards = np.zeros(signals, np.int64)
        if any(len(span.sums) != signals for span in self.timeline.spans):
            self.timeline = Timeline(steady=self.clock == "rows")
        prefix = "row" if self.clock == "rows" else alarm_id(self.node, self.version, time.time_ns())[:8]
        before, self.samples = self.samples, Samples(self.options.keep, prefix, confidence=compared.confidence)
        for sample in before:
            # What has drifted from the last baseline is still to be learnt from.
            if len(sample.values) == signals:
                self.samples.put_back(sample)

    def _score(self, rows: Rows, start: int, values: Array, at: Array, seconds: Array) -> list[Alarm]:
        """Rows from `start` on: their values [n, signals], times and durations [n]."""
        compared = self.compared
        assert compared is not None
        step = compared.drift.feed(values)
        self.scored += len(values)
        compared.recent.add(values, seconds, compared.sure(values))
        self.timeline.add(float(at[0]), values, step.evidence, step.log_p)
        self.samples.add(rows, start, values, at, self.scored, compared.unusual, self.towards)
        found = self._raised(step, at)
        for alarm in found:
            self.alarms.add(alarm)
        return found

    def _raised(self, step: Step, at: Array) -> list[Alarm]:
        found = []
        if step.crossed is not None and self.alarms.standing("sequential") is None:
            found.append(raising.of_bets(self, step.evidence, at, step.crossed))
        telling = [window for window in step.windows if window.rejected.any()]
        if telling and self.alarms.standing("window") is None:
            found.append(raising.of_window(self, telling[0], float(at[-1])))
        return found

    def now(self, given: float | None = None) -> float:
        """By the monitor's own clock, where nobody says it."""
        own = self.updated if self.clock == "rows" else time.time()
        return own if given is None else given
