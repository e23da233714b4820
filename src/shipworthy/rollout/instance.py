"""Which run of a server a process belongs to, told from every other one that this machine has had."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instance:
    """A process that is a whole server, or the supervisor of its workers."""

    boot: str
    """What the system calls the time since it was started; empty where it does not say."""
    process: int
    began: int
    """In ticks of the kernel since then: numbers of processes are given again. 0 where the system does not say."""

    def lives(self) -> bool:
        if self.boot != _boot():
            return False
        if self.began:
            return _began(self.process) == self.began
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def is_before(self, other: Instance) -> bool:
        """Whether the machine was started again between the two."""
        return self.boot != other.boot


def this_instance(*, worker: bool) -> Instance:
    """That of this process, which is a `worker` of a supervisor, or else a server by itself."""
    process = os.getppid() if worker else os.getpid()
    return Instance(_boot(), process, _began(process))


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _began(process: int) -> int:
    """0 where there is no such process any more."""
    try:
        # The name, in brackets, may have any character.
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] in "ZX" else int(words[19])
