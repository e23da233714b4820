"""Whether what comes now is like the reference: mathematics only, numpy only, no clock and no files.

    bins = Bins.of(reference.scores, reference.signals)        # 32 bins between quantiles of each signal
    detector = Detector(bins.counts, run_length=1e6, nodes=1)  # bets on each scored request
    evidence = detector.update(bins.place(values, random))     # [n]: 1 or more raises the alarm; .by_signal .began
    result = WindowTest(reference.scores, reference.signals).test(values)  # 500 at a time: .p .corrected .rejected

Values are [n, signals] with NaN where missing. What they mean for a person: `effects`; for those who expect rules of
thumb: `rules`. Of labels: `quality`, on counts that add; without labels: `estimate`.

How each formula keeps its promise stands at the top of its file."""

from . import effects, estimate, quality, rules
from .bins import Bins
from .detector import Detector
from .effects import Effect, effect
from .windows import WindowResult, WindowTest, WindowTests

__all__ = [
    "Bins",
    "Detector",
    "Effect",
    "WindowResult",
    "WindowTest",
    "WindowTests",
    "effect",
    "effects",
    "estimate",
    "quality",
    "rules",
]
