"""What a request says before its body, read once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ..errors import InputError, Problem
from ..predict.ids import new_id
from .access import sane_id
from .bodies import too_long

if TYPE_CHECKING:
    from .routing import Assigned

GONE = "shipworthy.gone"
"""The extension of a scope that takes a callback for when the client has left."""
ANSWER = "shipworthy.answer"
"""The one that takes a whole answer at once."""
WHOLE = "shipworthy.whole"
"""The one that gives the whole body, where it is there already."""
HEAD = "shipworthy.head"
"""Under this a scope holds what was read of its head before."""
TIMEOUT = b"x-request-timeout-ms"
MAX_TIMEOUT_MS = 3_600_000
MAX_DIGITS = 17


class Head:
    """Headers by name, in lower case; of one that was sent twice the last counts."""

    __slots__ = ("assigned", "headers", "id", "left", "scope", "value")

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        self.left = False
        """The client has left."""
        self.assigned: Assigned | None = None
        """The version that answers, where several share the requests of a model."""
        self.value: object = None
        """Of a body of JSON that was parsed already."""
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id")
        self.id = new_id() if given is None else sane_id(given)

    def size(self, limit: int) -> int:
        """Bytes of the body as announced; `limit` where it comes in chunks. ProblemError where it is longer."""
        text = self.headers.get(b"content-length")
        if text is None:
            return limit if b"transfer-encoding" in self.headers else 0
        # The web server has refused what is no number; one of more than 18 digits is beyond every limit.
        if not text.isdigit() or len(text) > 18 or int(text) > limit:
            raise too_long(limit)
        return int(text)

    def leave_with_client(self) -> None:
        """From now on, the running task is cancelled if the client leaves, where the web server tells of that."""
        register = self.extensions.get(GONE)
        task = asyncio.current_task()
        if register is None or task is None:
            return

        def leave() -> None:
            self.left = True
            task.cancel()

        register(leave)

    def stay(self) -> None:
        """From now on it only notes that the client has left; so it does if that has happened before."""
        register = self.extensions.get(GONE)
        if register is not None:
            register(self._note)

    def _note(self) -> None:
        self.left = True

    def whole(self, limit: int, count: Callable[[int], object]) -> bytes | None:
        """The body, where all of it is there already and the web server tells of that; None where it is awaited, and
        `count` is told of its pieces.

        ProblemError where it has more than `limit` bytes."""
        take = self.extensions.get(WHOLE)
        body: bytes | None = None if take is None else take(limit, count)
        if body is not None and len(body) > limit:
            raise too_long(limit)
        return body

    @property
    def extensions(self) -> Mapping[str, Any]:
        """What the web server offers beyond ASGI."""
        return self.scope.get("extensions") or {}

    @property
    def content_type(self) -> str:
        return self.headers.get(b"content-type", b"").decode("latin-1")

    @property
    def timeout_s(self) -> float | None:
        """The caller's own deadline. InputError where it is no whole number of milliseconds."""
        text = self.headers.get(TIMEOUT)
        if text is None:
            return None
        if not (text.isdigit() and len(text) <= 7 and 1 <= int(text) <= MAX_TIMEOUT_MS):
            raise InputError([Problem(0, "x-request-timeout-ms", f"expected milliseconds from 1 to {MAX_TIMEOUT_MS}")])
        return int(text) / 1e3

    @property
    def digits(self) -> int | None:
        """How far `?round=` rounds the floats of the answer. InputError where it is no number from 0 to 17."""
        query: bytes = self.scope["query_string"]
        if not query:
            return None
        text = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("round")
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= 2 and int(text) <= MAX_DIGITS):
            raise InputError([Problem(0, "round", f"expected a number of digits from 0 to {MAX_DIGITS}")])
        return int(text)
