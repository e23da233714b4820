"""What the package of ours gives without a server, measured before and after each visit to ours."""

from __future__ import annotations

import json
import statistics
import subprocess
from dataclasses import dataclass, field, replace

from .models import Model
from .quiet import Elsewhere
from .results import Result
from .servers import APPS, OURS, python


@dataclass
class InProcess:
    """Called with the number of the round, several times in each: a host's speed changes within minutes."""

    model: Model
    seconds: float
    """Of all batch sizes together."""
    environment: str = "shipworthy-openvino"
    rates: dict[int, float] = field(default_factory=dict)
    """Samples per second by the round, the mean of its measurements."""
    elsewhere: list[float] = field(default_factory=list)
    """Cores used by others meanwhile."""
    _found: dict[int, list[float]] = field(default_factory=dict)
    detail: str = ""
    """How its last round ran."""
    error: str | None = None

    def __call__(self, number: int) -> None:
        words = [python(self.environment), str(APPS / "in_process.py"), str(self.model.package), str(self.seconds)]
        try:
            with Elsewhere() as elsewhere:
                ended = subprocess.run(words, capture_output=True, text=True, timeout=self.seconds + 120)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.error = str(error)
            return
        if ended.returncode != 0:
            self.error = (ended.stderr.strip().splitlines() or [f"ended with status {ended.returncode}"])[-1]
            return
        try:
            found = json.loads(ended.stdout)
            rate = float(found["rate"])
            sizes = ", ".join(f"{each:.0f}/s of {size}" for size, each in found["rates"].items())
            detail = f"{found['variant']}, {found['streams']} streams, batches of {found['batch']} ({sizes})"
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self.error = f"said {ended.stdout[-200:]!r}: {error}"
            return
        self._found.setdefault(number, []).append(rate)
        self.rates[number], self.detail = statistics.fmean(self._found[number]), detail
        self.elsewhere.append(elsewhere.cores)

    def result(self) -> Result:
        plain = Result(f"{self.model.name} in process", OURS, True, detail=self.detail, error=self.error)
        if not self.rates:
            return plain
        rates = self.rates.values()
        return replace(
            plain,
            rps=statistics.median(rates),
            rps_low=min(rates),
            rps_high=max(rates),
            elsewhere_cpu=statistics.median(self.elsewhere),
            rounds=len(rates),
        )
