"""W3C Trace Context: who a request belongs to, as its headers say.

Level 1 of the recommendation (https://www.w3.org/TR/trace-context-1/), with the flag `random` of level 2 passed on.
It needs no library, so that the log has trace ids where no traces are exported.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

SAMPLED, RANDOM = 1, 2
MAX_MEMBERS = 32
MAX_STATE = 8192
"""Longer `tracestate` headers are left out; 512 characters are what everybody must pass on."""

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MEMBER = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace: the ids of the trace and of a span in it, 32 and 16 hexadecimal digits."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""
    """The other systems' own notes, passed on as they are."""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def child(self) -> TraceContext:
        """A new span in the same trace, which this one is the parent of."""
        return TraceContext(self.trace_id, new_id(64), self.flags, self.state)


def parse(traceparent: str | None, tracestate: Iterable[str] = ()) -> TraceContext | None:
    """The caller's place; None where the header is missing or not valid, and a new trace is to be begun.

    A version above 00 may have more fields behind the four that are known; 00 may not, and ff is none. An invalid
    `tracestate` is left out, and does not harm the `traceparent`."""
    if traceparent is None or len(traceparent) > 512:
        return None
    found = _PARENT.fullmatch(traceparent.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    return TraceContext(trace_id, span_id, int(flags, 16) & (SAMPLED | RANDOM), parse_state(tracestate))


def parse_state(headers: Iterable[str]) -> str:
    """The `tracestate` of all its headers, in order; empty where any member is not valid, or one is there twice."""
    whole = ",".join(headers)
    if len(whole) > MAX_STATE:
        return ""
    # An empty member is allowed, and says nothing; the space before and after one belongs to no member.
    members = [member for given in whole.split(",") if (member := given.strip(" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in found if match is not None}
    return ",".join(members) if len(keys) == len(members) <= MAX_MEMBERS else ""


def begin(sampled: bool) -> TraceContext:
    """The first span of a new trace."""
    return TraceContext(new_id(128), new_id(64), SAMPLED | RANDOM if sampled else RANDOM)


def new_id(bits: int) -> str:
    """Random, and never zero."""
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"
