"""Measure a candidate in a process of its own: latency, throughput, memory, kernels."""

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
from .process import Caps, Worker
from .race import FASTER, TAIL_RUNS, Course, Lap, Objective, Racer, is_faster, race, size_ratio, speed, with_tail
from .survey import Survey, SurveyTimes, batch_sizes, open_graph, ranked, survey, timing_cases

__all__ = [
    "FASTER",
    "TAIL_RUNS",
    "Caps",
    "CheckModel",
    "CheckReply",
    "Course",
    "Done",
    "ExportModel",
    "ExportReply",
    "KernelsReply",
    "Lap",
    "MemoryReply",
    "ModelSource",
    "Objective",
    "Racer",
    "ReadKernels",
    "ReadMemory",
    "RunCases",
    "Survey",
    "SurveyTimes",
    "Worker",
    "batch_sizes",
    "busy_share",
    "is_faster",
    "load_findings",
    "open_graph",
    "precision_refusal",
    "race",
    "ranked",
    "size_ratio",
    "speed",
    "survey",
    "timing_cases",
    "with_tail",
]
