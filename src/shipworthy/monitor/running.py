"""The monitor process put together: what its parent said, the place of its states, webhooks, and the loop."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from ..contract import Contract
from ..errors import MonitorError
from ..signals import Reference, read_reference
from .keeping import Start, read_start
from .monitor import Monitor
from .observed import Observed, Opening
from .options import MonitorOptions
from .outbox import FileMemory
from .places import Places
from .process import Process
from .quality import LossSource
from .remembering import Memory, Remembering
from .store import States
from .view import View
from .webhooks import Webhooks
from .wire import Begin

if TYPE_CHECKING:
    from ..registry import Losses

NICE = 5
"""Who answers requests comes first."""
NODES = 64
"""Servers on one machine that share a place."""
PARENT = 0
"""Standard input: the parent's pipe."""


class Outside(Protocol):
    """What other rooms add to the process. Called from a thread beside it; may wait for a network, and raise
    ShipworthyError."""

    @property
    def place(self) -> str:
        """Of the states, where nobody has chosen another."""

    def losses(self, model: str, version: str) -> Losses | None:
        """See `quality.LossSource`."""

    def seen(self, views: Sequence[View]) -> None:
        """What there is to see now, of all versions."""


def main(number: int, open_outside: Callable[[Start], AbstractContextManager[Outside]]) -> None:
    """Serve the socket of this number until the parent ends, or SIGTERM comes. `open_outside` is used where there is a
    registry."""
    from ..server.observe.logs import configure

    start = read_start(PARENT)
    log = configure(start.log_format, root=True)
    if sys.platform == "linux":
        os.nice(NICE)
    listening = socket.socket(fileno=number)
    try:
        if start.registered:
            with open_outside(start) as outside:
                orphaned = run(start, listening, PARENT, outside)
        else:
            orphaned = run(start, listening, PARENT)
    finally:
        log.close()
    if orphaned:
        shutil.rmtree(start.folder, ignore_errors=True)


def run(start: Start, listening: socket.socket, parent: int | None = None, outside: Outside | None = None) -> bool:
    """Whether it was the parent that ended."""
    places, options = Places(Path(start.folder)), start.options
    shared = start.place or (None if outside is None else outside.place)
    place = shared or str(places.states)
    with node_name(place) as node:
        remembering = Remembering(States(place))
        webhooks = _webhooks(options, places, place, node)
        source = None if outside is None else outside.losses
        begin = opening(options, node, remembering, shared=shared is not None, source=source)

        def look(views: Sequence[View]) -> None:
            if outside is not None:
                remembering.do(("views",), lambda: outside.seen(views))

        process = Process(listening, places, begin, webhooks=webhooks, on_views=look)
        try:
            return process.run(parent)
        finally:
            remembering.close()
            if webhooks is not None:
                webhooks.close()


def opening(
    options: MonitorOptions,
    node: str,
    remembering: Remembering,
    *,
    shared: bool = False,
    source: LossSource | None = None,
) -> Opening:
    """Watches versions on this node. `shared`: other nodes may use the place of the states. `source` has labels."""

    def begun(said: Begin, content: bytes) -> Observed:
        reference = _reference(said, content)
        accepted = None if reference is None else reference.accepted
        memory = Memory(remembering, said.model, said.version, node, shared, accepted, source)
        monitor = Monitor(
            (_contract(said), reference),
            options=options,
            variant=said.variant,
            model=said.model,
            version=said.version,
            node=node,
            quality=memory.with_quality,
        )
        return Observed(monitor, memory)

    return begun


@contextmanager
def node_name(place: str) -> Iterator[str]:
    """The name of this machine, with a number where another server on it uses the place already. A server that is
    started again has the name that it had before, if they are started in the same order."""
    host = socket.gethostname() or "node"
    digest = hashlib.sha256(place.encode()).hexdigest()[:16]
    for number in range(NODES):
        path = Path(tempfile.gettempdir()) / f"shipworthy-node-{os.getuid()}-{digest}-{number}.lock"
        descriptor = _locked(path)
        if descriptor is not None:
            try:
                yield host if number == 0 else f"{host}-{number + 1}"
            finally:
                os.close(descriptor)
            return
    raise MonitorError(f"the place {place}", f"is used by {NODES} servers of this machine", "name another place")


def _locked(path: Path) -> int | None:
    """The open file, whose lock ends with it; None where another process has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        # Somebody else's, or no file, under a name that is ours.
        if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR):
            return None
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _webhooks(options: MonitorOptions, places: Places, place: str, node: str) -> Webhooks | None:
    if not options.webhooks:
        return None
    remembered = places.folder if "://" in place else Path(place)
    return Webhooks(options.webhooks, options.webhook_secret, FileMemory(remembered / f".webhooks-{node}.json"))


def _contract(said: Begin) -> Contract:
    try:
        return Contract.model_validate_json(said.contract)
    except ValidationError as error:
        reason = f"its contract has {error.error_count()} faults"
        raise MonitorError(f"model {said.model!r}", reason, "restart the server") from None


def _reference(said: Begin, content: bytes) -> Reference | None:
    if not content:
        return None
    with tempfile.NamedTemporaryFile(prefix="shipworthy-reference-") as file:
        file.write(content)
        file.flush()
        return read_reference(Path(file.name), f"the reference of {said.model}:{said.version}")
