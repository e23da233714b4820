"""Threads and processors of a worker process, fixed before anything that starts threads is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def thread_variables(threads: int | None) -> dict[str, str]:
    """Environment variables that hold the numeric libraries to `threads`; none where the number is free."""
    return {} if threads is None else dict.fromkeys(_VARIABLES, str(threads))


def processors_for(threads: int | None) -> tuple[int, ...] | None:
    """The processors to keep to: one per physical core first.

    None where there is nothing to choose: as many threads as processors, or a system without affinity."""
    if threads is None or not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    if threads >= len(allowed):
        return None
    return tuple(sorted(allowed, key=lambda cpu: (_rank_in_core(cpu), cpu))[:threads])


def keep_to(processors: Sequence[int]) -> None:
    """Keep this process, and all threads that it starts from now on, to these processors."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)


def _rank_in_core(cpu: int) -> int:
    """0 for the first hardware thread of a physical core, 1 for its sibling."""
    siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        text = siblings.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    members: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        members.extend(range(int(first), int(last or first) + 1))
    return sorted(members).index(cpu) if cpu in members else 0
