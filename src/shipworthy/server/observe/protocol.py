"""What a server tells of itself while it runs, and what may listen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Route: TypeAlias = Literal["predict", "v2", "grpc"]


class LaneRecorder(Protocol):
    """Told of everything that happens to one version of one model. From any thread; nothing here blocks."""

    in_flight: Callable[[], int]
    """Requests that have a place now."""
    waiting: Callable[[], int]
    """Rows that wait for a batch now."""

    def ran(self, rows: int, bucket: int, parts: int, queue_s: Sequence[float], compute_s: float) -> None:
        """A batch of `rows`, padded to `bucket`, took `compute_s`; each of its `parts` had waited `queue_s`."""

    def answered(self, route: Route, total_s: float) -> None:
        """A request was answered with success, `total_s` after its headers came, or its body where that is short."""

    def refused(self, reason: str) -> None:
        """A request was not let in: `deadline`, `requests`, `bytes` or `draining`."""

    def failed(self, status: int, route: Route = "predict", total_s: float = 0.0) -> None:
        """A request was answered with another status than 2xx. A refused one is told with both calls."""

    def close(self) -> None:
        """The lane is gone: lets go of it, takes its part from the gauges, and leaves the counters as they are."""


class Recorder(Protocol):
    """Told of everything that happens in one worker, and asked what happened in all."""

    ready: Callable[[], bool]
    models_loaded: Callable[[], int]
    lines_lost: Callable[[], int]
    """Lines that the log has dropped so far."""
    traces_lost: Callable[[], int]
    """Requests that were to be traced and were not, so far."""
    connections_ended: Callable[[], Mapping[str, int]]
    """Connections that this process has ended so far, by the reason."""

    def lane(self, model: str, version: str) -> LaneRecorder:
        """A recorder for one lane, until it is closed. Lanes of the same names, such as the old and the new one while a
        model is loaded again, add up."""

    def unrouted(self, status: int) -> None:
        """A request was refused before a model was found."""

    def labelled(self, model: str, outcome: str, count: int) -> None:
        """So many labels of predictions were sent, and this became of them."""

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics of all workers, and their content type: OpenMetrics where the Accept header prefers that, else
        Prometheus' text. Takes milliseconds: to be called off the event loop where others should not wait."""

    def statistics(self, model: str, version: str) -> Statistics:
        """What all workers have done for a version so far; all zero where it is not known."""

    def flush(self) -> None:
        """Make what was told visible to the other workers."""

    async def keep_flushing(self, interval_s: float = 0.5) -> None:
        """Flush from time to time, until cancelled."""

    def close(self) -> None:
        """Flush, and give the worker's slot back."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How often, and how long together in nanoseconds."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The executions of one size of batch, as the engine ran it."""

    batch_size: int
    compute_infer: Timing


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the statistics extension of the Open Inference Protocol asks for, summed over all workers."""

    model: str
    version: str
    last_inference_ms: int = 0
    """When the last batch ended, in milliseconds since 1970; 0 where there was none."""
    inference_count: int = 0
    """Rows that were inferred."""
    execution_count: int = 0
    """Batches that were run."""
    success: Timing = Timing()
    """Requests with an answer, from their headers to it."""
    fail: Timing = Timing()
    """Requests without; the time is that of those whose failure was told with one."""
    queue: Timing = Timing()
    """Parts of requests, waiting for their batch."""
    compute_infer: Timing = Timing()
    """Batches in the engine."""
    batches: tuple[BatchSize, ...] = ()
    """By the size of the batch, the smallest first."""
