"""HTTP/1.1 connections that cannot be held, flooded or confused by who is at the other end.

`bounded(limits)` gives the protocol class of one server, for `uvicorn.Config(http=...)`."""

from .limits import Limits
from .protocol import ANSWER, GONE, WHOLE, Connection, bounded
from .watch import Watch

__all__ = ["ANSWER", "GONE", "WHOLE", "Connection", "Limits", "Watch", "bounded"]
