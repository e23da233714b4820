"""What a server process was trying when it died: native code of a challenger can end the process that runs it.

A process writes the rollouts that it takes part in into a file of its own, and takes them out when it ends in order.
The files outlive the server, so that one that is started again by whoever looks after it (a supervisor of workers,
systemd) finds what was left, and says so to the registry. A process holds a lock on its file for as long as it lives;
the next one takes the first file that nobody holds. So a file that can be had, and says something, is that of a process
that died, whatever the number of servers on this machine."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from io import FileIO
from itertools import count
from pathlib import Path

MOST = 3
"""So many processes may die while they try a challenger, of whatever cause; then it has lost."""
_LOG = logging.getLogger("shipworthy.rollout")


def state_folder() -> Path:
    """`$XDG_STATE_HOME/shipworthy/trying`, else below `~/.local/state`. RuntimeError where the user has no home."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path("~/.local/state").expanduser()
    return root / "shipworthy" / "trying"


class Trying:
    """The file of one process. Used on the event loop."""

    def __init__(self, registry: str, names: Sequence[str]) -> None:
        """For a server of these names of the registry. Where no file can be had, that is logged, and nothing noted."""
        # Homes may be shared by machines. The url may have a password.
        what = json.dumps([socket.gethostname(), registry, sorted(names)])
        self._stem = blake2b(what.encode(), digest_size=12, person=b"trying").hexdigest()
        self._written: list[int] | None = None
        """None while the file is still that of the process before."""
        self._closed = False
        self._file = self._held(new=False)

    def left(self) -> list[int]:
        """The rollouts that the process before this one took part in when it died."""
        if self._file is None:
            return []
        try:
            # What stands after the first line was longer before.
            found = json.loads(os.pread(self._file.fileno(), 65536, 0).partition(b"\n")[0] or b"[]")
        # It was somebody else's, or its disk was full.
        except (OSError, ValueError):
            return []
        return [one for one in found if isinstance(one, int)] if isinstance(found, list) else []

    def note(self, rollouts: Iterable[int]) -> None:
        """These are tried from now on. Tens of microseconds, where something has changed."""
        now = sorted(rollouts)
        if now == self._written or self._closed:
            return
        self._written = now
        if self._file is None and now:
            self._file = self._held(new=True)
        if self._file is not None:
            try:
                # In one call, so that no death leaves half of it.
                os.pwrite(self._file.fileno(), json.dumps(now).encode() + b"\n", 0)
            except OSError as error:
                _log(error)

    def close(self) -> None:
        """Let the next process have it."""
        self._closed = True
        if self._file is not None:
            self._file.close()
            self._file = None

    def _held(self, *, new: bool) -> FileIO | None:
        """The first file that nobody else holds, with its lock; a `new` one is made where there is none."""
        try:
            folder = state_folder()
            if new:
                folder.mkdir(parents=True, exist_ok=True)
            for number in count():
                file = _locked(folder / f"{self._stem}-{number}.json", new=new)
                if file is not None:
                    return file
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError) as error:
            _log(error)
        return None


def _locked(path: Path, *, new: bool) -> FileIO | None:
    """The file; None where somebody else holds it. OSError where it cannot be had, as where it is not there."""
    file = FileIO(os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if new else 0), 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise
    return file


def _log(error: Exception) -> None:
    _LOG.warning("a challenger that ends this process will not be known: %s", error)
