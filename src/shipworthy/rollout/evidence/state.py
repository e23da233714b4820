"""All processes of one rollout together."""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias

from .paired import Paired
from .ratio import Ratio
from .unpaired import Unpaired

Mode: TypeAlias = Literal["shadow", "canary", "ab"]
SampleRatio: TypeAlias = Literal["assigned", "completed", "labelled"]
FORMAT = 1
"""Of the JSON text. A reader of each number that was ever written stays."""
_RATIOS = ("errors", "latency", "assigned", "completed", "labelled")


class Evidence:
    """What is known of one rollout: quality, guardrails, sample ratios, with the counts behind them."""

    def __init__(self, mode: Mode, delta: float) -> None:
        self.mode: Mode = mode
        self.quality: Paired | Unpaired = Paired(delta) if mode == "shadow" else Unpaired(delta)
        self.errors = Ratio.guardrail()
        """Events: answers that failed, by the model's or the server's fault."""
        self.latency = Ratio.guardrail()
        """Events: answers above the `Threshold`."""
        self.assigned = Ratio.sample_ratio()
        """Every request that was assigned. The sample ratios are for a canary or A/B; in shadow they stay empty."""
        self.completed = Ratio.sample_ratio()
        """Every request that ended, of those that had time to: of the slower version more are still on their way, and
        would look lost."""
        self.labelled = Ratio.sample_ratio()
        """Every request whose label came."""
        self.mismatch: SampleRatio | None = None
        """The first sample ratio that was found wrong, such as `labelled`; from then on there is no quality verdict.
        `judge` writes it."""

    @property
    def delta(self) -> float:
        return self.quality.delta

    @property
    def paired(self) -> Paired:
        """Quality, in shadow."""
        assert isinstance(self.quality, Paired)
        return self.quality

    @property
    def unpaired(self) -> Unpaired:
        """Quality, in a canary or A/B."""
        assert isinstance(self.quality, Unpaired)
        return self.quality

    def sample_ratio(self, name: SampleRatio) -> Ratio:
        return {"assigned": self.assigned, "completed": self.completed, "labelled": self.labelled}[name]

    def to_json(self) -> str:
        """Text that `from_json` reads back, equal to the last bit."""
        record: dict[str, Any] = {"format": FORMAT, "mode": self.mode, "quality": self.quality.to_record()}
        record |= {name: getattr(self, name).to_record() for name in _RATIOS}
        return json.dumps({**record, "mismatch": self.mismatch}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Evidence:
        record = json.loads(text)
        assert record["format"] == FORMAT, f"evidence of format {record['format']}; this version reads {FORMAT}"
        made = cls(record["mode"], record["quality"]["delta"])
        made.quality = type(made.quality).from_record(record["quality"])
        for name in _RATIOS:
            setattr(made, name, Ratio.from_record(record[name]))
        made.mismatch = record["mismatch"]
        return made
