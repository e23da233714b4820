"""What an operator asks of a rollout: its mode, its shares, its margin, its guardrails. Frozen, and kept as JSON."""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

from .options import PARTS, READERS, refused

Mode: TypeAlias = Literal["shadow", "canary", "ab"]
Guardrail: TypeAlias = Literal["errors", "latency", "ratio", "drift"]

TIMED = 50
"""Answers of a challenger: enough to see that it takes 1.5 times as long."""
_DEFAULT_DELTA: dict[str, float] = {"shadow": 0.01, "canary": 0.02, "ab": 0.02}
_ONLY_FOR: dict[str, tuple[Mode, ...]] = {
    "ramp": ("canary",),
    "stage_requests": ("canary",),
    "stage_seconds": ("canary",),
    "share": ("ab",),
    "shadow_rate": ("shadow",),
    "shadow_budget": ("shadow",),
    "max_pairs": ("shadow",),
}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Spec:
    """What a rollout is to do. Raises RolloutError that names the field where it cannot be."""

    mode: Mode
    """shadow: the challenger sees copies, and its answers are never returned. canary: its share of the traffic rises
    along a ramp. ab: its share is fixed."""
    delta: float = math.nan
    """The margin: a mean loss that is higher by no more than this is still acceptable. By default 0.01 for shadow,
    0.02 for canary and ab."""
    ramp: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5)
    """Canary: shares of the challenger, one for each stage, rising."""
    stage_requests: int = 1000
    """Canary: so many requests, of both arms together, before the next stage."""
    stage_seconds: float = 30.0
    """Canary: a stage lasts at least so long."""
    share: float = 0.5
    """A/B: share of the challenger."""
    key_header: str = "x-assignment-key"
    """Header of a request whose value decides its arm; the same value always has the same hash."""
    auto: bool = False
    """Act on the verdict: move the alias champion, or end the rollout."""
    timeout_s: float = 86_400.0
    """After so many seconds without a verdict the rollout ends, and the champion stays."""
    target_ms: float | None = None
    """A request is slow above this; by default above the champion's 95th percentile."""
    error_scale: float | None = None
    """Regression: the absolute error that counts as a whole loss, 1."""
    shadow_rate: float = 1.0
    """Shadow: share of the requests that are copied."""
    shadow_budget: float = 0.25
    """Shadow: share of one core that copies may cost."""
    max_pairs: int = 20_000
    """Shadow: so many pairs wait for their labels; the oldest give way, and count as the worst case for good."""
    guardrails: tuple[Guardrail, ...] = ("errors", "latency", "ratio")
    """Which of them may end the rollout. drift has to be asked for: an alarm of the monitor that the challenger has and
    the champion has not."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise refused("mode", f"is {self.mode!r}", f"choose one of {', '.join(get_args(Mode))}")
        if isinstance(self.delta, float) and math.isnan(self.delta):
            _set(self, "delta", _DEFAULT_DELTA[self.mode])
        _set(self, "ramp", _ramp(self.ramp))
        _set(self, "share", _share("share", self.share, below=1.0))
        _set(self, "shadow_rate", _share("shadow_rate", self.shadow_rate))
        _set(self, "key_header", _header(self.key_header))
        _set(self, "guardrails", _guardrails(self.guardrails))
        for name, lowest, highest in (
            ("delta", 0.0001 if self.mode == "shadow" else 0.0, 0.5),
            ("stage_seconds", 0.0, math.inf),
            ("timeout_s", 1.0, math.inf),
            ("shadow_budget", 0.001, 1.0),
        ):
            _set(self, name, _number(name, getattr(self, name), lowest, highest))
        for name in ("target_ms", "error_scale"):
            if getattr(self, name) is not None:
                _set(self, name, _positive(name, getattr(self, name)))
        _whole("stage_requests", self.stage_requests, 10**9)
        _whole("max_pairs", self.max_pairs, 10**6)
        if not isinstance(self.auto, bool):
            raise refused("auto", f"is {self.auto!r}", "give true or false")

    @property
    def timed(self) -> int:
        """So many answers of the challenger are timed before it is promoted; none where nobody looks at its latency."""
        return TIMED if "latency" in self.guardrails else 0

    @property
    def shares(self) -> tuple[float, ...]:
        """The challenger's share of the answers, for each stage; that of a shadow is 0."""
        return {"shadow": (0.0,), "canary": self.ramp, "ab": (self.share,)}[self.mode]

    @classmethod
    def from_options(cls, mode: str, options: Mapping[str, object]) -> Spec:
        """The spec of what was written on a command line or sent as JSON; what is None was not given.

        A text is read as people write it: a ramp in percent (`1,5,25,50,100`; 100 is what a promotion does, and no
        stage of its own), a share as `0.3` or `30%`, a time as `90s`, `30m`, `24h` or `7d`, guardrails with commas.
        Raises RolloutError for an option that does not exist, that another mode has, or that cannot be read."""
        given = {name: value for name, value in options.items() if value is not None}
        known = [field.name for field in fields(cls) if field.name != "mode"]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise refused(name, "is no option", f"did you mean {near[0]}?" if near else f"{', '.join(known)} are")
            modes = _ONLY_FOR.get(name, get_args(Mode))
            if mode in get_args(Mode) and mode not in modes:
                raise refused(name, f"means nothing for {mode}", f"leave it out, or choose {' or '.join(modes)}")
        read = {name: READERS[name](value) if name in READERS else value for name, value in given.items()}
        values: dict[str, Any] = {"mode": mode, **read}
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Of what `to_json` wrote, in this version or an older one."""
        values = json.loads(text)
        values["ramp"] = tuple(values["ramp"])
        values["guardrails"] = tuple(values["guardrails"])
        return cls(**values)


def _set(spec: Spec, name: str, value: object) -> None:
    object.__setattr__(spec, name, value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _number(name: str, value: Any, lowest: float, highest: float) -> float:
    if not _is_number(value) or not lowest <= value <= highest:
        bounds = f"from {lowest:g}" + ("" if math.isinf(highest) else f" to {highest:g}")
        raise refused(name, f"is {value!r}", f"give a number {bounds}")
    number: float = float(value)
    return number


def _positive(name: str, value: Any) -> float:
    if not _is_number(value) or value <= 0:
        raise refused(name, f"is {value!r}", "give a number above zero, or leave it out")
    return float(value)


def _whole(name: str, value: object, highest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= highest:
        raise refused(name, f"is {value!r}", f"give a whole number from 1 to {highest}")


def _share(name: str, value: Any, *, below: float = math.inf) -> float:
    """`value` as the nearest float to a multiple of 1/PARTS; refused where it is none."""
    if not _is_number(value) or not 0 < value <= 1 or value >= below:
        end = "below 1" if below == 1.0 else "up to 1"
        raise refused(name, f"is {value!r}", f"give a share above 0 and {end}, such as 0.25")
    parts = round(value * PARTS)
    if parts == 0 or abs(value * PARTS - parts) > 1e-6:
        raise refused(name, f"is {value!r}", f"give a multiple of {1 / PARTS:g}, so that it means the same everywhere")
    share: float = parts / PARTS
    return share


def _ramp(value: Any) -> tuple[float, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise refused("ramp", f"is {value!r}", "give the shares of the stages, such as 0.01, 0.05, 0.25, 0.5")
    shares = tuple(_share("ramp", share, below=1.0) for share in value)
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise refused("ramp", f"is {', '.join(f'{share:g}' for share in shares)}", "let every stage be above the last")
    return shares


def _header(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise refused("key_header", f"is {value!r}", "give the name of an HTTP header, such as x-user")
    return value.lower()


def _guardrails(value: Any) -> tuple[Guardrail, ...]:
    known = get_args(Guardrail)
    unknown = [name for name in value if name not in known]
    if isinstance(value, str) or unknown:
        raise refused("guardrails", f"is {value!r}", f"choose of {', '.join(known)}")
    return tuple(name for name in known if name in value)
