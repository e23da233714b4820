"""The shortest way: one instance of plain numbers for a model that runs on the event loop, answered without a task.

Such a request waits for its batch and for nothing else. A task, a future and their turns of the event loop would be a
fifth of what it costs. Whatever is not plain takes the usual way, which also says what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from starlette.types import ASGIApp, Scope

from .answering import answer, as_json
from .bodies import JSON
from .dispatch import RefusedError, StoppedError, clock
from .engine import Ran
from .head import HEAD, TIMEOUT, Head
from .place import Place
from .problems import INTERNAL
from .replies import JSON_TYPE, send_lines
from .reporting import LEFT

if TYPE_CHECKING:
    from .front import Front, Hot
    from .lane import Lane

MOST_BYTES = 4096
"""Of a body that is looked at here: to find that it is not plain costs no more than some microseconds. The web server
waits for bodies of this length (`connections.protocol.SHORT`)."""
_JSON = JSON.encode()


class WebExchange(Protocol):
    """What is asked of the web server."""

    gone: bool

    def glance(self) -> bytes | None: ...

    def answer(self, status: int, lines: bytes, body: bytes, *, close: bool) -> bool: ...

    def go_on(self, app: ASGIApp, scope: Scope) -> None: ...


class Express:
    """A request on its way; its part's future, for whoever delivers batches."""

    __slots__ = ("_exchange", "_front", "_head", "_hot", "_lane", "_started", "place")

    def __init__(self, front: Front, hot: Hot, lane: Lane, head: Head, exchange: WebExchange, started: float) -> None:
        self._front, self._hot, self._lane, self._head = front, hot, lane, head
        self._exchange, self._started = exchange, started
        self.place: Place

    def done(self) -> bool:
        # Also where the client has left: the place is still to be closed.
        return False

    def set_result(self, ran: Ran) -> None:
        """Answer with the rows of a batch."""
        self.place.close()
        try:
            self._answer(ran)
        # Whatever it is, the others of the batch are still to be answered.
        except Exception as error:  # noqa: BLE001
            self.refuse(error)

    def set_exception(self, error: Exception) -> None:
        """Answer what was wrong with the batch, or with this row of it."""
        self.place.close()
        self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """Answer what is wrong; there is no hurry."""
        front, head, started = self._front, self._head, self._started
        hot = (self._lane, *self._hot[1:])
        self._exchange.go_on(
            lambda scope, receive, send: front.refuse(error, head, hot, None, send, started), head.scope
        )

    def _answer(self, ran: Ran) -> None:
        head, lane = self._head, self._lane
        assigned = head.assigned
        if self._exchange.gone:
            if assigned is not None:
                assigned.unserved(LEFT, clock() - self._started)
            return
        body = answer(lane, head, ran, None)
        lines, close = self._front.lines(JSON_TYPE, body, head, None, (), ran)
        if not self._exchange.answer(200, lines, body, close=close):
            self._exchange.go_on(
                lambda scope, receive, send: send_lines(send, 200, lines, body, close=close), head.scope
            )
        total_s = clock() - self._started
        lane.metrics.answered(self._hot[2], total_s)
        if assigned is not None:
            assigned.answered(total_s)


def take_on(front: Front, hot: Hot, scope: Scope, exchange: WebExchange) -> bool:
    """Take a request on that may go this way; False where it may not, and nothing has come of it.

    What was found out about it until then is in the scope, and is not found out again."""
    started = clock()
    body = exchange.glance()
    if body is None or len(body) > MOST_BYTES or len(body) > hot[0].settings.max_body_bytes:
        return False
    head, lane = Head(scope), hot[0]
    if not _is_plain(head) or front.problem(scope) is not None:
        scope[HEAD] = head
        return False
    if (experiment := hot[3]) is not None:
        keyed = experiment.header in head.headers
        assigned = head.assigned = experiment.assign(head.headers) if keyed else experiment.draw()
        lane = assigned.lane
    try:
        numbers = _numbers(lane, head, body)
        if numbers is None:
            scope[HEAD] = head
            return False
        request = Express(front, hot, lane, head, exchange, started)
        try:
            place = request.place = lane.admit(len(body))
        except (RefusedError, StoppedError) as error:
            request.refuse(error)
            return True
        try:
            place.numbers(numbers, head.value, request)
        except BaseException:
            place.close()
            raise
    except BaseException:
        # The web server answers that; the experiment would wait for an end.
        if head.assigned is not None:
            head.assigned.unserved(INTERNAL.status, clock() - started)
        raise
    return True


def _numbers(lane: Lane, head: Head, body: bytes) -> list[Any] | None:
    """Those of the one instance that a request has; None where it has something else."""
    if lane.rows is None or not lane.express:
        return None
    head.value = as_json(body)
    return lane.rows.take(head.value)


def _is_plain(head: Head) -> bool:
    headers = head.headers
    return headers.get(b"content-type") == _JSON and TIMEOUT not in headers and not head.scope["query_string"]
