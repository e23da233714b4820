"""The shortest way: one instance of plain numbers for a model that runs on the event loop, answered without a task.

Such a request waits for its batch and for nothing else. A task, a future and their turns of the event loop would be a
fifth of what it costs. Whatever is not plain takes the usual way, which also says what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from starlette.types import ASGIApp, Scope

from .answering import INLINE_BYTES, answer, as_json
from .bodies import JSON
from .dispatch import RefusedError, StoppedError, clock
from .engine import Ran
from .head import TIMEOUT, Head
from .place import Place
from .replies import JSON_TYPE, send_lines

if TYPE_CHECKING:
    from .front import Front, Hot

_JSON = JSON.encode()


class Exchange(Protocol):
    """What is asked of the web server."""

    def glance(self) -> bytes | None: ...

    def answer(self, status: int, lines: bytes, body: bytes, *, close: bool) -> bool: ...

    def go_on(self, app: ASGIApp, scope: Scope) -> None: ...


class Express:
    """A request on its way; its part's future, for whoever delivers batches."""

    __slots__ = ("_exchange", "_front", "_head", "_hot", "_started", "place")

    def __init__(self, front: Front, hot: Hot, head: Head, exchange: Exchange, started: float) -> None:
        self._front, self._hot, self._head = front, hot, head
        self._exchange, self._started = exchange, started
        self.place: Place

    def done(self) -> bool:
        return False

    def set_result(self, ran: Ran) -> None:
        """Answer with the rows of a batch."""
        front, head, (lane, _, route) = self._front, self._head, self._hot
        try:
            body = answer(lane, ran, None)
        # Whatever it is, the others of the batch are still to be answered.
        except Exception as error:  # noqa: BLE001
            self.set_exception(error)
            return
        self.place.close()
        lines, close = front.lines(JSON_TYPE, body, head, None, (), ran)
        if not self._exchange.answer(200, lines, body, close=close):
            self._exchange.go_on(
                lambda scope, receive, send: send_lines(send, 200, lines, body, close=close), head.scope
            )
        lane.metrics.answered(route, clock() - self._started)

    def set_exception(self, error: Exception) -> None:
        """Answer what was wrong."""
        self.place.close()
        self.refuse(error)

    def refuse(self, error: Exception) -> None:
        front, head, hot, started = self._front, self._head, self._hot, self._started
        self._exchange.go_on(
            lambda scope, receive, send: front.refuse(error, head, hot, None, send, started), head.scope
        )


def express(front: Front, hot: Hot, scope: Scope, exchange: Exchange) -> bool:
    """Take a request on that may go this way; False where it may not, and nothing has come of it."""
    started = clock()
    lane, body = hot[0], exchange.glance()
    if body is None or len(body) > INLINE_BYTES:
        return False
    head = Head(scope)
    if not _is_plain(head) or front.problem(scope) is not None:
        return False
    value = as_json(body)
    numbers = None if lane.rows is None else lane.rows.take(value)
    if numbers is None:
        return False
    request = Express(front, hot, head, exchange, started)
    try:
        place = request.place = lane.admit(len(body))
    except (RefusedError, StoppedError) as error:
        request.refuse(error)
    else:
        place.numbers(numbers, value, request)
    return True


def _is_plain(head: Head) -> bool:
    headers = head.headers
    return headers.get(b"content-type") == _JSON and TIMEOUT not in headers and not head.scope["query_string"]
