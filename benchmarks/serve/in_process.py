"""What the package of ours gives without a server, measured between the rounds of those that have one."""

from __future__ import annotations

import json
import statistics
import subprocess
from dataclasses import dataclass, field, replace

from .models import Model
from .process import Failed
from .results import Result
from .servers import APPS, OURS, python


@dataclass
class InProcess:
    """Called once in each round."""

    model: Model
    seconds: float
    environment: str = "shipworthy-openvino"
    rates: list[float] = field(default_factory=list)
    detail: str = ""
    error: str | None = None

    def __call__(self) -> None:
        words = [python(self.environment), str(APPS / "in_process.py"), str(self.model.package), str(self.seconds)]
        try:
            ended = subprocess.run(words, capture_output=True, text=True, timeout=self.seconds + 120)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.error = str(error)
            return
        if ended.returncode != 0:
            self.error = (ended.stderr.strip().splitlines() or [f"ended with status {ended.returncode}"])[-1]
            return
        told = json.loads(ended.stdout)
        self.rates.append(told["rate"])
        self.detail = f"{told['variant']}, {told['streams']} streams, batch {told['batch']}"

    @property
    def rate(self) -> float:
        """Raises Failed where there is none."""
        if not self.rates:
            raise Failed(self.error or "was not measured")
        return statistics.median(self.rates)

    def result(self) -> Result:
        plain = Result(f"{self.model.name} in process", OURS, True, detail=self.detail, error=self.error)
        if not self.rates:
            return plain
        low, high = min(self.rates), max(self.rates)
        return replace(plain, rps=self.rate, rps_low=low, rps_high=high, rounds=len(self.rates))
