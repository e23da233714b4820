"""Noise in the demo's traffic, and how its monitor notices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ServeError
from ..monitor.sources import Served
from .asking import ask_numbers

if TYPE_CHECKING:
    import httpx

    from ..contract import Array
    from ..monitor.view import Alarm

NOISE = 3 / 16
"""Standard deviation: three of sixteen grey values, in which people hardly misread a digit."""
TOGETHER = 64
PATIENCE_S = 60.0
BREATH_S = 0.1
"""Between two requests; at most 500 rows a second are scored, so that more of them at once would be sent in vain."""


def noise_until_alarm(client: httpx.Client, images: Array, model: str) -> Alarm:
    """Ask for noisy copies of images [n, 1, 8, 8], until the monitor raises its alarm.

    Raises ServeError where it raises none in `PATIENCE_S`."""
    random, watched = np.random.default_rng(0), Served(str(client.base_url))
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        some = images[random.integers(len(images), size=TOGETHER)]
        ask_numbers(client, some + random.normal(0, NOISE, some.shape).astype(some.dtype))
        alarms = [alarm for view in watched.views(model) for alarm in view.alarms if alarm.acknowledged is None]
        if alarms:
            return alarms[-1]
        time.sleep(BREATH_S)
    raise ServeError("the demo's monitor", f"saw no drift within {PATIENCE_S:.0f} s of noise")
