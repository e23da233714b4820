"""When which requests run together: the policy of the server, and a simulator that runs the same policy without one.

Nothing here reads a clock, starts a thread or knows of HTTP: every call is told what time it is, in seconds."""

from .curve import Curve
from .parts import Batch, Bounds, Part, Refusal, cut
from .queue import Queue
from .scheduler import Scheduler

__all__ = ["Batch", "Bounds", "Curve", "Part", "Queue", "Refusal", "Scheduler", "cut"]
