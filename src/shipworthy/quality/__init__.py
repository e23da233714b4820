"""How good a candidate's answers are: parity with eager, the task's metric, and what a sample proves of it."""

from .claims import Claim
from .metrics import Metric, metric_for
from .paired import compare, gather, join
from .parity import ParityJudge, misfit

__all__ = ["Claim", "Metric", "ParityJudge", "compare", "gather", "join", "metric_for", "misfit"]
