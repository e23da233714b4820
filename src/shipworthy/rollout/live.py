"""Rollouts inside a server process: which version a request goes to, and what is seen of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..predict.ids import ALONE, CHAMPION, Signer, digest_of
from .arms import Arm, Keyed
from .draws import Draws, Random
from .observed import Observed
from .recorder import Recorder
from .shadow import Shadow

if TYPE_CHECKING:
    from ..predict.answers import Naming
    from ..server.lane import Lane
    from .backlog import Copy
    from .record import Rollout

_WHOLE = float(2**64)
_DIGITS = 9
"""A number of a registry's version has no more; the version of a package from elsewhere has 12 hexadecimal ones."""
_LOG = logging.getLogger("shipworthy.rollout")


class Split:
    """A canary or an A/B comparison: each request goes to one version, by its key or by chance. Used on the event
    loop."""

    def __init__(
        self,
        rollout: Rollout,
        key: bytes,
        champion: Lane,
        challenger: Lane,
        recorder: Recorder,
        *,
        random: Random | None = None,
    ) -> None:
        """`random` gives numbers that are uniform in [0, 1)."""
        self.lanes = champion, challenger
        self.header = rollout.spec.key_header.encode()
        self._salt = b"%d:" % rollout.id
        self._random = random or np.random.default_rng().random
        self._recorder, self._key = recorder, key
        self._draws: Draws | None = None
        self._share = -1.0
        self.follow(rollout)

    def follow(self, rollout: Rollout) -> None:
        """The share may be another one."""
        if rollout.share == self._share:
            return
        self._count()
        self._share = rollout.share
        self._go_on(self._recorder.begin(self._key, rollout, *self.lanes))

    def assign(self, headers: Mapping[bytes, bytes], *, named: bool = True) -> Arm | Keyed:
        key = headers.get(self.header)
        if not key:
            return self.draw()
        digest = digest_of(self._salt + key, self._key)
        arm = self._new if digest / _WHOLE < self._share else self._old
        arm.keyed.append(digest)
        return Keyed(arm, digest)

    def take(self) -> Callable[[], Observed]:
        """What was seen since the last time; to be called in a thread, after the one before."""
        self._count()
        taken, arms = self._recorder.take()
        self._go_on(arms)
        return lambda: self._recorder.observed(taken)

    def _count(self) -> None:
        if self._draws is not None:
            self._draws.end()
            self._draws = None

    def _go_on(self, arms: tuple[Arm, Arm]) -> None:
        self._old, self._new = arms
        self._draws = Draws(*arms, self._share, self._random)
        self.draw: Callable[[], Arm] = self._draws.next

    def close(self) -> None:
        """Put down what was drawn: a later trial may go on with the recorder. Nothing is assigned any more."""
        self._count()


class Uncopied:
    """Every request that the champion alone answers: it says nothing of the challenger."""

    __slots__ = ("ids", "lane")

    def __init__(self, lane: Lane, signer: Signer) -> None:
        self.lane = lane
        self.ids: Naming = signer.ids

    def naming(self, instances: Sequence[object]) -> Naming:
        return self.ids

    def answered(self, total_s: float) -> None:
        """Nobody asks."""

    def unserved(self, status: int, total_s: float, *, unanswered: bool = False) -> None:
        """Nobody asks."""


class Copied:
    """A request whose answer the challenger is asked for too, once it has gone out: of a client that has left no label
    would come, and a disagreement would count as the worst case for good."""

    __slots__ = ("_asked", "_copy", "_digest", "_shadow", "_signer", "lane")
    ids = None

    def __init__(self, lane: Lane, signer: Signer, shadow: Shadow, digest: int) -> None:
        self.lane, self._signer, self._shadow, self._digest = lane, signer, shadow, digest
        self._asked: Sequence[object] = ()
        self._copy: Copy | None = None

    def naming(self, instances: Sequence[object]) -> Naming:
        self._asked = instances

        def ids(answers: Sequence[Mapping[str, Any]]) -> Sequence[bytes]:
            made = self._signer.ids(answers, self._digest)
            self._copy = self._shadow.copy(instances, answers, made, self._digest)
            return made

        return ids

    def answered(self, total_s: float) -> None:
        """Both versions are timed with the copy, on the engine alone."""
        if self._copy is not None:
            self._shadow.offer(self._copy)

    def unserved(self, status: int, total_s: float, *, unanswered: bool = False) -> None:
        # What it was too busy for says nothing of the version, and the challenger has no queue of its own.
        if status == 500 or unanswered:
            self._shadow.champion_failed(self._asked)


class Shadowed:
    """The champion answers all; the challenger is given copies. Used on the event loop.

    Requests whose answers will have no id are not copied, as those of the Open Inference Protocol: no label could ever
    settle a disagreement, which would count as the worst case for good."""

    def __init__(self, rollout: Rollout, key: bytes, champion: Lane, challenger: Lane) -> None:
        self.lanes = champion, challenger
        self.header = rollout.spec.key_header.encode()
        self._salt, self._key = b"%d:" % rollout.id, key
        self._champion = champion
        self._signer = Signer(key, rollout.model, int(champion.version), rollout=rollout.id, arm=CHAMPION)
        self._uncopied = Uncopied(champion, self._signer)
        self._shadow = Shadow(champion, challenger, rollout.spec)

    def follow(self, rollout: Rollout) -> None:
        """A shadow has no share."""

    def draw(self) -> Uncopied | Copied:
        return self.assign({})

    def assign(self, headers: Mapping[bytes, bytes], *, named: bool = True) -> Uncopied | Copied:
        if not (named and self._shadow.wants()):
            return self._uncopied
        key = headers.get(self.header)
        digest = digest_of(self._salt + key, self._key) if key else 0
        return Copied(self._champion, self._signer, self._shadow, digest)

    def take(self) -> Callable[[], Observed]:
        """What was seen since the last time; as arrays when it is called."""
        seen = self._shadow.take()
        return lambda: Observed(copies=seen.copies())

    def close(self) -> None:
        self._shadow.close()


Trial = Split | Shadowed


class Router:
    """The router of a process: its trials by model. Used on the event loop, but for `running`."""

    def __init__(self, key: bytes, trying: Callable[[str, Rollout | None], None] = lambda model, rollout: None) -> None:
        """`trying` is told which rollout of a model is tried, before the first request is; None where none is."""
        self._key, self._trying = key, trying
        self.running: dict[str, Rollout] = {}
        """By model; set by whoever reads them, in whatever thread."""
        self.trials: dict[str, tuple[Rollout, Trial]] = {}
        self._recorders: dict[str, tuple[int, Recorder]] = {}
        """By model, with the rollout that each is of."""

    def naming(self, model: str, version: str) -> Naming | None:
        numbered = version.isdecimal() and len(version) <= _DIGITS
        return Signer(self._key, model, int(version), arm=ALONE).ids if numbered else None

    def experiment(self, model: str, lanes: Mapping[str, Lane]) -> Trial | None:
        trial = self._trial(model, lanes)
        self._trying(model, None if trial is None else self.trials[model][0])
        return trial

    def close(self) -> None:
        """Try nothing more."""
        for model, (_, trial) in self.trials.items():
            trial.close()
            self._trying(model, None)
        self.trials.clear()

    def _trial(self, model: str, lanes: Mapping[str, Lane]) -> Trial | None:
        rollout = self.running.get(model)
        before = self.trials.pop(model, None)
        wanted = None if rollout is None else (lanes.get(str(rollout.champion)), lanes.get(str(rollout.challenger)))
        if before is not None and rollout is not None and (before[0].id, before[1].lanes) == (rollout.id, wanted):
            before[1].follow(rollout)
            self.trials[model] = (rollout, before[1])
            return before[1]
        if before is not None:
            before[1].close()
        if rollout is None or not lanes:
            # It would keep the predictors of versions that nobody serves any more.
            self._recorders.pop(model, None)
        if rollout is None or wanted is None or wanted[0] is None or wanted[1] is None:
            return None
        trial = self._begin(rollout, wanted[0], wanted[1])
        self.trials[model] = (rollout, trial)
        _LOG.info("model %r: rollout %d, %s of version %d", model, rollout.id, rollout.mode, rollout.challenger)
        return trial

    def _begin(self, rollout: Rollout, champion: Lane, challenger: Lane) -> Trial:
        if rollout.mode == "shadow":
            return Shadowed(rollout, self._key, champion, challenger)
        number, recorder = self._recorders.get(rollout.model, (0, None))
        if recorder is None or number != rollout.id:
            target_ms = rollout.spec.target_ms
            recorder = Recorder(None if target_ms is None else target_ms / 1e3)
            self._recorders[rollout.model] = rollout.id, recorder
        return Split(rollout, self._key, champion, challenger, recorder)
