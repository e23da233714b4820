"""What an operator chooses of monitoring."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..errors import MonitorError

RATE = 500
"""Scored requests a second and model, at most."""
FEWEST_BASELINE = 32
MOST_BASELINE = 1_000_000
"""Requests that may be taken as a reference."""


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """How a served model is watched."""

    rate: int = RATE
    """At most so many randomly chosen rows a second and model are scored. Alarms count scored rows."""
    one_in: int = 1
    """Take at most one in so many rows: where neighbours resemble each other (sessions, frames of a video), the promise
    needs them to be apart."""
    run_length: float = 1e6
    """Scored requests until a false alarm of the sequential detector, on average, at least."""
    window: int = 500
    """Scored requests of a windowed test."""
    window_rate: float = 0.001
    """Probability of a false alarm for each window."""
    nodes: int = 1
    """Servers that watch the same version, which share the promise."""
    keep: int = 200
    """Samples that are kept of each version: those that show an alarm most, and those with least confidence. 0 keeps
    nothing of what was asked."""
    baseline: int = 0
    """Take so many of the first requests as the reference, instead of the package's own; 0 takes the package's."""
    place: str | None = None
    """Folder or URL (fsspec) of the states; None for that beside the registry's files, or for none with a server of
    files, which then forgets all when it ends."""
    webhooks: tuple[str, ...] = ()
    """Where alarms are sent."""
    webhook_secret: str | None = field(default=None, repr=False)
    """Signs them."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rate", 1, 100_000),
            ("one_in", 1, 1_000_000),
            ("window", 100, 100_000),
            ("nodes", 1, 10_000),
            ("keep", 0, 100_000),
            ("baseline", 0, MOST_BASELINE),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise MonitorError(f"monitor {name}", f"is {value!r}", f"give a whole number from {low} to {high}")
        if not 1e2 <= self.run_length <= 1e12:
            raise MonitorError("monitor run_length", f"is {self.run_length!r}", "give a number from 100 to 1e12")
        if not 1e-6 <= self.window_rate <= 0.1:
            raise MonitorError("monitor window_rate", f"is {self.window_rate!r}", "give a rate from 1e-6 to 0.1")
        if self.baseline:
            check_baseline(self.baseline)
        for url in self.webhooks:
            check_address(url)


def check_baseline(samples: int) -> None:
    """Raises MonitorError where so many requests cannot become a reference."""
    if not FEWEST_BASELINE <= samples <= MOST_BASELINE:
        remedy = f"give at least {FEWEST_BASELINE} and at most {MOST_BASELINE:,}, better 1000"
        raise MonitorError("the baseline", f"has {samples} rows", remedy)


def check_address(url: str) -> None:
    """Raises MonitorError where this is no URL of HTTP. It may hold a secret, so the error does not repeat it."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isprintable()
        fine = fine and url.isascii() and " " not in url
    except ValueError:
        fine = False
    if not fine:
        raise MonitorError("webhook", "an address is no URL of HTTP", "give one such as https://example.org/hook")
