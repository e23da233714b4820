"""Measure a candidate in a process of its own: parity, metric, latency, throughput, memory, kernels."""

from .cases import read_cases, write_cases
from .claims import Claim
from .kernels import precision_refusal
from .load import busy_share, load_findings
from .messages import (
    CheckModel,
    CheckReply,
    Done,
    ExportModel,
    ExportReply,
    KernelsReply,
    MemoryReply,
    ModelSource,
    ReadKernels,
    ReadMemory,
    RunCases,
)
from .metrics import Metric, metric_for
from .paired import compare, gather, join
from .parity import ParityJudge, misfit
from .process import Caps, Worker
from .race import FASTER, TAIL_RUNS, Course, Lap, Objective, Racer, is_faster, race, size_ratio, speed, with_tail
from .survey import Survey, SurveyTimes, batch_sizes, open_graph, ranked, survey, timing_cases

__all__ = [
    "FASTER",
    "TAIL_RUNS",
    "Caps",
    "CheckModel",
    "CheckReply",
    "Claim",
    "Course",
    "Done",
    "ExportModel",
    "ExportReply",
    "KernelsReply",
    "Lap",
    "MemoryReply",
    "Metric",
    "ModelSource",
    "Objective",
    "ParityJudge",
    "Racer",
    "ReadKernels",
    "ReadMemory",
    "RunCases",
    "Survey",
    "SurveyTimes",
    "Worker",
    "batch_sizes",
    "busy_share",
    "compare",
    "gather",
    "is_faster",
    "join",
    "load_findings",
    "metric_for",
    "misfit",
    "open_graph",
    "precision_refusal",
    "race",
    "ranked",
    "read_cases",
    "size_ratio",
    "speed",
    "survey",
    "timing_cases",
    "with_tail",
    "write_cases",
]
