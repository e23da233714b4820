"""Alarms, sent to addresses of an operator's choice: signed, retried, told once each, and never in the monitor's way.

A message is a POST of JSON. Its signature is HMAC-SHA256, keyed with the operator's secret, over the timestamp, a dot
and the body, so that a receiver can refuse what is forged, altered or old. An alarm is told when it is raised and when
it is acknowledged; what was told is remembered, also over restarts. A receiver may still get a message twice (its
answer can be lost on the way): the id in `shipworthy-id` is the same then."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from .. import __version__
from .options import check_address
from .outbox import Memory, Message, Outbox
from .posting import Answer, post
from .view import Alarm

Event: TypeAlias = Literal["raised", "acknowledged"]

SECONDS = 10.0
"""An answer takes at most so long."""
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 600.0
GIVEN_UP_S = 86_400.0
"""What could not be delivered for a day is dropped, and counted."""
TOLERANCE_S = 300.0
"""A receiver refuses what was signed longer ago, or as far in the future."""

_LOG = logging.getLogger("shipworthy.monitor")


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of messages: delivered; given up after a day of failures; lost, as too many waited; or waiting."""

    delivered: int
    failed: int
    lost: int
    waiting: int


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of `shipworthy-signature`: `v1=` and HMAC-SHA256 of `timestamp.body` in hexadecimal."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify(secret: str, timestamp: str, body: bytes, signature: str, *, now: float | None = None) -> bool:
    """Whether a message comes from whoever has the secret, and was signed in the last five minutes.

    `timestamp` and `signature` are its headers, `body` its bytes as they came. In constant time."""
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 16):
        return False
    recent = abs((time.time() if now is None else now) - int(timestamp)) <= TOLERANCE_S
    return hmac.compare_digest(sign(secret, timestamp, body).encode(), signature.encode("utf-8", "replace")) and recent


class Webhooks:
    """Tells alarms to every address. One thread for each, so that one that hangs keeps no other waiting."""

    def __init__(
        self,
        urls: Sequence[str],
        secret: str | None,
        memory: Memory | None = None,
        *,
        seconds: float = SECONDS,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """`memory` keeps what was told and what waits, over restarts; without it both are forgotten with the process.

        `seconds` bounds one attempt, `first_wait_s` is waited after the first failure, and twice as long after each
        further one, up to ten minutes. Raises MonitorError where an address cannot be one."""
        for url in urls:
            check_address(url)
        self._secret = secret
        self._seconds = seconds
        self._outbox = Outbox(urls, memory, first_wait_s=first_wait_s, longest_wait_s=LONGEST_WAIT_S)
        self._threads = [
            threading.Thread(target=self._deliver, args=(url,), name=f"webhook-{place}", daemon=True)
            for place, url in enumerate(dict.fromkeys(urls))
        ]
        for thread in self._threads:
            thread.start()

    def tell(self, alarms: Iterable[Alarm]) -> None:
        """Takes all alarms there are, as often as one likes; what is new is told. Returns at once."""
        for alarm in alarms:
            if alarm.acknowledged is None:
                self._outbox.add(alarm, "raised")
            elif self._outbox.knows(alarm, "raised"):
                self._outbox.add(alarm, "acknowledged")

    @property
    def sent(self) -> Sent:
        return Sent(*self._outbox.counts())

    def close(self, seconds: float = 2.0) -> None:
        """What waits is tried after the next start. Waits so long for what is under way."""
        self._outbox.close()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _deliver(self, url: str) -> None:
        while (message := self._outbox.next(url)) is not None:
            answer = self._send(message)
            if answer.delivered:
                self._outbox.delivered(message)
            elif time.time() - message.since > GIVEN_UP_S:
                self._outbox.given_up(message)
                _LOG.error("webhook %s: given up after a day: %s", _host(url), answer.reason)
            else:
                wait = self._outbox.failed(message, answer.retry_after_s)
                _LOG.warning("webhook %s: %s; tried again in %.0f s", _host(url), answer.reason, wait)

    def _send(self, message: Message) -> Answer:
        timestamp, body = str(int(time.time())), message.body.encode()
        headers = {
            "content-type": "application/json",
            "user-agent": f"shipworthy/{__version__}",
            "shipworthy-event": message.event,
            "shipworthy-id": message.id,
            "shipworthy-timestamp": timestamp,
        }
        if self._secret is not None:
            headers["shipworthy-signature"] = sign(self._secret, timestamp, body)
        return post(message.url, body, headers, self._seconds)


def _host(url: str) -> str:
    """Of an address that may hold a secret, what may stand in a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"
