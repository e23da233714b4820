"""What a server tells of itself: metrics, logs and traces."""

from .logs import Format, Log, configure
from .metrics import LaneMetrics, Metrics, NoMetrics
from .protocol import BatchSize, LaneRecorder, Recorder, Route, Statistics, Timing
from .readers import counters_folder
from .spans import Trace, Visit
from .tracing import Tracer, open_tracer

__all__ = [
    "BatchSize",
    "Format",
    "LaneMetrics",
    "LaneRecorder",
    "Log",
    "Metrics",
    "NoMetrics",
    "Recorder",
    "Route",
    "Statistics",
    "Timing",
    "Trace",
    "Tracer",
    "Visit",
    "configure",
    "counters_folder",
    "open_tracer",
]
