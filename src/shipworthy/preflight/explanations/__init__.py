"""Turn the classic errors of PyTorch into cause and remedy."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import ShipworthyError
from ...usercode import layer_of, user_line
from . import calls, dtypes, files, graphs, places, shapes
from .explanation import Explanation

__all__ = ["Explanation", "explain"]

_CASES = (*places.CASES, *dtypes.CASES, *shapes.CASES, *files.CASES, *graphs.CASES, *calls.CASES)


def explain(exc: BaseException) -> Explanation:
    """Cause and remedy of an exception, with the numbers of its message.

    Where the message is wrapped, what caused it is read too. An exception that is not known is said to be that."""
    for link in _chain(exc):
        if isinstance(link, ShipworthyError):
            return Explanation(
                "shipworthy",
                f"{link.culprit}: {link.reason}",
                link.remedy or "correct what is named",
                _evidence(link, exc),
            )
        message = str(link)
        for known in _CASES:
            match = known.pattern.search(message)
            if match is not None:
                cause, remedy = known.tell(match)
                return Explanation(known.kind, cause, remedy, _evidence(link, exc))
    return _unknown(exc)


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception, then what it was raised from or while handling."""
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _evidence(link: BaseException, exc: BaseException) -> tuple[str, ...]:
    first = (str(link).strip().split("\n") or [""])[0]
    lines = [f"{type(link).__name__}: {first}" if first else type(link).__name__]
    where = user_line(link) or user_line(exc)
    if where is not None:
        lines.append(f"at {where}")
    layer = layer_of(link) or layer_of(exc)
    if layer is not None:
        lines.append(f"in layer {layer}")
    return tuple(lines)


def _unknown(exc: BaseException) -> Explanation:
    where = user_line(exc)
    return Explanation(
        "unknown",
        f"{type(exc).__name__}, which is none of the errors that are known here",
        f"look at {where}, the last line of your own before it was raised"
        if where
        else "read the message and its traceback",
        _evidence(exc, exc),
    )
