"""The metrics of a server: their names by Prometheus' conventions, what they say, and how workers are merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]
Merged: TypeAlias = Literal["sum", "least", "greatest", "this"]

SECONDS = (*(float(f"{digits}e{power}") for power in range(-5, 1) for digits in (1, 2.5, 5)), 10.0)
"""Upper bounds of durations: 10 µs to 10 s, three for each power of ten."""
ROWS = tuple(float(2**power) for power in range(13))
"""Upper bounds of batch sizes: 1 to 4096."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `merged` says what the number of a server is, given those of its workers that live."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merged: Merged = "sum"


_MODEL = ("model", "version")

REQUEST_SECONDS = Family(
    "shipworthy_request_duration_seconds",
    "histogram",
    "Time from the headers of a request (from its body, where that has at most 4 KiB) to its answer, of requests that "
    "were answered with success.",
    (*_MODEL, "route"),
    SECONDS,
)
QUEUE_SECONDS = Family(
    "shipworthy_queue_duration_seconds",
    "histogram",
    "Time that a part of a request waited for its batch.",
    _MODEL,
    SECONDS,
)
COMPUTE_SECONDS = Family(
    "shipworthy_compute_duration_seconds", "histogram", "Time that a batch took in the engine.", _MODEL, SECONDS
)
BATCH_ROWS = Family("shipworthy_batch_rows", "histogram", "Rows of a batch, without those that pad it.", _MODEL, ROWS)
PADDING = Family(
    "shipworthy_batch_padding_rows_total",
    "counter",
    "Rows that were added to batches, to make them as large as the engine was prepared for.",
    _MODEL,
)
REQUESTS = Family(
    "shipworthy_requests_total", "counter", "Requests that were answered, by status.", (*_MODEL, "route", "status")
)
SHED = Family(
    "shipworthy_requests_shed_total",
    "counter",
    "Requests that were refused, because there was no room or no time for them.",
    (*_MODEL, "reason"),
)
FAILED = Family(
    "shipworthy_requests_failed_total",
    "counter",
    "Requests that were not answered with success: by fault of the client (4xx), or of the server (all others).",
    (*_MODEL, "fault"),
)
UNROUTED = Family(
    "shipworthy_requests_unrouted_total",
    "counter",
    "Requests that were refused before a model was found: no token, no such model, not readable.",
    ("status",),
)
LABELS = Family(
    "shipworthy_feedback_labels_total",
    "counter",
    "Labels that were sent for predictions of a model, by what became of them.",
    ("model", "outcome"),
)
IN_FLIGHT = Family("shipworthy_requests_in_flight", "gauge", "Requests that have a place, and no answer yet.", _MODEL)
WAITING = Family("shipworthy_queue_rows", "gauge", "Rows that wait for a batch.", _MODEL)
LOADED = Family(
    "shipworthy_models_loaded", "gauge", "Models that a worker has loaded, of the one with most.", merged="greatest"
)
READY = Family("shipworthy_ready", "gauge", "1 where all workers are ready, else 0.", merged="least")
WORKERS = Family("shipworthy_workers", "gauge", "Worker processes that live.", merged="this")
LINES_LOST = Family(
    "shipworthy_log_lines_dropped_total", "counter", "Lines of the log that were dropped, because it was not read."
)
TRACES_LOST = Family(
    "shipworthy_traces_dropped_total",
    "counter",
    "Requests whose spans were recorded and then dropped, because they could not be exported.",
)
CONNECTIONS_ENDED = Family(
    "shipworthy_connections_ended_total",
    "counter",
    "HTTP connections that the server ended or did not take, because of a limit or of what they sent.",
    ("reason",),
)
SERIES_LOST = Family(
    "shipworthy_metrics_series_dropped", "gauge", "Series for which there is no room, and which are missing here."
)
CPU = Family("process_cpu_seconds_total", "counter", "Processor time of all workers, of user and system, in seconds.")
RSS = Family("process_resident_memory_bytes", "gauge", "Resident memory of the workers that live, in bytes.")
VIRTUAL = Family("process_virtual_memory_bytes", "gauge", "Virtual memory of the workers that live, in bytes.")
FDS = Family("process_open_fds", "gauge", "Open file descriptors of the workers that live.")
START = Family(
    "process_start_time_seconds",
    "gauge",
    "Start of the first worker since unix epoch, in seconds.",
    merged="least",
)
BUILD = Family(
    "shipworthy_build_info", "info", "Versions of the software that serves.", ("version", "python"), merged="this"
)

FAMILIES = (
    REQUEST_SECONDS,
    QUEUE_SECONDS,
    COMPUTE_SECONDS,
    BATCH_ROWS,
    PADDING,
    REQUESTS,
    SHED,
    FAILED,
    UNROUTED,
    LABELS,
    IN_FLIGHT,
    WAITING,
    LOADED,
    READY,
    WORKERS,
    CONNECTIONS_ENDED,
    LINES_LOST,
    TRACES_LOST,
    SERIES_LOST,
    CPU,
    RSS,
    VIRTUAL,
    FDS,
    START,
    BUILD,
)

BUCKET_BATCHES = "bucket_batches"
"""Not exported: for each size of batch that the engine ran, [batches, seconds, rows]."""
FAILED_SECONDS = "failed_seconds"
"""Not exported: what requests took that failed, in seconds."""
LAST = "last_inference_seconds"
"""Not exported: when the last batch ended, in seconds since 1970."""
