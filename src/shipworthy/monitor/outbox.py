"""What is to be told to webhooks: bounded, each thing once, and kept over restarts."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydantic_core import to_json

from ..errors import ShipworthyError
from .view import Alarm

_LOG = logging.getLogger("shipworthy.monitor")

FORMAT = 1
MOST_WAITING = 256
"""Messages that wait for one address; the oldest gives way to a newer one, and is counted as lost."""
MOST_REMEMBERED = 4096
"""Ids of what was told or lost, for each address; the oldest are forgotten."""


class Memory(Protocol):
    """A place for a few hundred kB. Called from threads of the webhooks, never from the monitor."""

    def load(self) -> bytes | None: ...

    def save(self, data: bytes) -> None:
        """All or nothing."""


class FileMemory:
    """A file that only its user may read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def save(self, data: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        made.replace(self._path)


@dataclass(frozen=True, slots=True)
class Message:
    """Something to be told to one address."""

    url: str
    id: str
    event: str
    body: str
    since: float
    """When it was first to be sent, seconds since 1970."""
    attempts: int = 0
    due: float = 0.0
    """Not before; of the clock that does not jump."""

    @property
    def behind(self) -> str | None:
        """The message that has to be told before this one: that an alarm is over is not told before the alarm."""
        return None if self.event == "raised" else self.id.removesuffix(self.event) + "raised"


class Outbox:
    """Messages by address, with the ids of what was told."""

    def __init__(
        self, urls: Sequence[str], memory: Memory | None, *, first_wait_s: float, longest_wait_s: float
    ) -> None:
        self._memory = memory
        self._waits = (first_wait_s, longest_wait_s)
        self._waiting: dict[str, dict[str, Message]] = {url: {} for url in urls}
        self._told: dict[str, dict[str, None]] = {url: {} for url in urls}
        self._counts = dict.fromkeys(("delivered", "failed", "lost"), 0)
        self._changed = threading.Condition()
        self._saving = threading.Lock()
        self._random = random.Random()
        self._closed = self._unsaved = False
        if memory is not None:
            self._restore(memory)

    def add(self, alarm: Alarm, event: str) -> None:
        """Nothing where it was told before, was lost, or waits."""
        with self._changed:
            for url, waiting in self._waiting.items():
                name = _name(alarm, event)
                if name in waiting or name in self._told[url]:
                    continue
                if len(waiting) >= MOST_WAITING:
                    # It comes with every telling while it stands, and would drive out another each time.
                    self._end(waiting[next(iter(waiting))], "lost")
                waiting[name] = Message(url, name, event, _body(alarm, event), time.time())
                self._unsaved = True
            self._changed.notify_all()

    def knows(self, alarm: Alarm, event: str) -> bool:
        """Whether it was told, or will be, to any."""
        name = _name(alarm, event)
        with self._changed:
            return any(name in self._waiting[url] or name in self._told[url] for url in self._waiting)

    def next(self, url: str) -> Message | None:
        """Waits for what is due; None when all is to end."""
        while True:
            self._save()
            with self._changed:
                if self._closed:
                    return None
                waiting = self._waiting[url]
                ready = (one for one in waiting.values() if one.behind not in waiting)
                first = min(ready, key=lambda message: message.due, default=None)
                wait = None if first is None else first.due - time.monotonic()
                if first is not None and wait is not None and wait <= 0:
                    return first
                if not self._unsaved or self._memory is None:
                    self._changed.wait(wait)

    def delivered(self, message: Message) -> None:
        with self._changed:
            self._end(message, "delivered")

    def given_up(self, message: Message) -> None:
        with self._changed:
            self._end(message, "failed")

    def failed(self, message: Message, at_least_s: float) -> float:
        """Put off: exponentially longer after each attempt, with jitter, so that nodes do not come all at once."""
        first, longest = self._waits
        wait = min(longest, first * 2.0 ** min(message.attempts, 30)) * self._random.uniform(0.5, 1.0)
        wait = max(wait, at_least_s)
        with self._changed:
            if message.id in self._waiting[message.url]:
                later = replace(message, attempts=message.attempts + 1, due=time.monotonic() + wait)
                self._waiting[message.url][message.id] = later
        return wait

    def counts(self) -> tuple[int, int, int, int]:
        """Delivered, given up, lost, waiting."""
        with self._changed:
            waiting = sum(map(len, self._waiting.values()))
            return self._counts["delivered"], self._counts["failed"], self._counts["lost"], waiting

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._save()

    def _end(self, message: Message, how: str) -> None:
        """With the lock."""
        self._waiting[message.url].pop(message.id, None)
        told = self._told[message.url]
        told[message.id] = None
        while len(told) > MOST_REMEMBERED:
            told.pop(next(iter(told)))
        self._counts[how] += 1
        self._unsaved = True

    def _save(self) -> None:
        """Writes what has changed, outside of the lock that the monitor needs."""
        if self._memory is None:
            return
        with self._saving:
            with self._changed:
                if not self._unsaved:
                    return
                self._unsaved = False
                kept = {_digest(url): self._kept(url) for url in self._waiting}
            try:
                self._memory.save(json.dumps({"format": FORMAT, "addresses": kept}).encode())
            except (OSError, ShipworthyError) as error:
                _LOG.warning("what webhooks were told could not be kept, and may be told again: %s", error)

    def _kept(self, url: str) -> dict[str, object]:
        waiting = [(one.id, one.event, one.body, one.since) for one in self._waiting[url].values()]
        return {"waiting": waiting, "told": list(self._told[url])}

    def _restore(self, memory: Memory) -> None:
        """What waits for an address that is no longer wanted is dropped."""
        try:
            data = memory.load()
            if data is None:
                return
            kept_all = json.loads(data)
            if kept_all["format"] != FORMAT:
                raise ValueError
            addresses = kept_all["addresses"]
            for url in self._waiting:
                kept = addresses.get(_digest(url), {"waiting": [], "told": []})
                waiting = (Message(url, *fields) for fields in kept["waiting"])
                self._waiting[url] = {message.id: message for message in waiting}
                self._told[url] = dict.fromkeys(kept["told"])
        except (OSError, ShipworthyError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.warning("what webhooks were told cannot be read, and is told again: %s", type(error).__name__)


def _digest(url: str) -> str:
    """An address may hold a secret, which is not for a file."""
    return hashlib.sha256(url.encode()).hexdigest()


def _name(alarm: Alarm, event: str) -> str:
    return f"{alarm.id}.{event}"


def _body(alarm: Alarm, event: str) -> str:
    """`text` is for chat programs, which show it as it is."""
    text = alarm.summary
    if event == "acknowledged":
        text = f"acknowledged by {alarm.who or 'somebody'}: {alarm.why or 'no reason given'} ({text})"
    told = {"id": _name(alarm, event), "event": event, "text": text, "alarm": alarm}
    return to_json(told, inf_nan_mode="null").decode()
