"""What an engine spends its time on: the time of every node of the graph that it executes."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract import Array, Arrays, Strict
from ..errors import EngineError, MissingExtra, ShipworthyError
from .engine_onnxruntime import OnnxRuntimeEngine, _executed, _Sessions
from .engine_openvino import CountedGraph
from .engines import engine_named
from .feeds import Gate
from .guarded import first_line
from .protocol import Artifact, OperatingPoint

WARM_UP = 3
"""Runs that are not counted: in the first ones engines allocate memory and pack weights."""
FEWEST = 5
_MOST_EVENTS = 20_000
"""ONNX Runtime writes about a kilobyte for each node and run."""


class OperatorTime(Strict):
    """One node of the graph that an engine executes."""

    name: str
    """Of the node in the engine's optimised graph."""
    op: str
    """Its type, as `Kernel.op` has it."""
    precision: str
    """fp32, bf16, fp16, int8, or the engine's own word."""
    us: float
    """Microseconds in one run of the graph, the mean of all that were counted."""
    calls: int
    """How often it was executed in all counted runs together; in a loop's body that may be several times in one."""
    heavy: bool = False
    """True for matrix products and convolutions."""


def operator_times(
    artifact: Artifact, point: OperatingPoint, feeds: Arrays, *, seconds: float = 1.0
) -> tuple[OperatorTime, ...]:
    """The time of every node over runs of `seconds` altogether, the slowest first; `openvino` and `onnxruntime` tell.

    The graph is opened as the engine opens it for one of the streams of `point`. OpenVINO counts whole microseconds:
    quicker nodes have 0 or, where they are not heavy, are missing. Its branches and loops are one node each, with all
    that they run. ONNX Runtime's profiler adds a few microseconds to every node; a branch has its own time, and the
    nodes inside have theirs. Raises InputError where the feeds do not fit, EngineError where the engine cannot tell
    (no other one can, nor any on cuda) or fails, and MissingExtra where it is not installed."""
    engine = engine_named(artifact.engine)
    if artifact.engine not in _TELLERS:
        raise EngineError(
            f"the engine {artifact.engine!r}",
            "does not tell the times of its operators",
            f"use one of {', '.join(_TELLERS)}",
        )
    if artifact.device != "cpu":
        raise EngineError(f"the device {artifact.device!r}", "has no times of operators", "time them on the cpu")
    arrays = Gate(artifact.signature).accept(feeds)
    alone = OperatingPoint(streams=1, threads=max(1, point.threads // point.streams), batch=point.batch)
    try:
        found = list(_TELLERS[artifact.engine](artifact, alone, arrays, seconds))
    except ShipworthyError:
        raise
    except Exception as error:  # engines raise whatever their bindings make of a C++ exception
        if isinstance(error, ModuleNotFoundError) and error.name == engine.module:
            raise MissingExtra(f"the engine {engine.name!r}", engine.module, engine.extra) from error
        reason = f"cannot be timed: {first_line(error)}"
        raise EngineError(str(artifact.directory), reason, "check the sizes and values that are fed") from error
    return tuple(sorted(found, key=lambda row: (-row.us, row.name)))


def _openvino(
    artifact: Artifact, point: OperatingPoint, feeds: dict[str, Array], seconds: float
) -> Iterator[OperatorTime]:
    graph = CountedGraph(artifact, point)
    try:
        _repeat(graph.execute, feeds, WARM_UP)
        cold = graph.mean_us()
        runs = _during(graph.execute, feeds, seconds)
        warm, nodes = graph.mean_us(), graph.nodes()
    finally:
        graph.release()
    for name, (op, precision, heavy) in nodes.items():
        # The engine cannot start anew, so what the warm-up took is taken off the sum.
        total = max(0, warm.get(name, 0) * (WARM_UP + runs) - cold.get(name, 0) * WARM_UP)
        if total or heavy:
            yield OperatorTime(name=name, op=op, precision=precision, us=total / runs, calls=runs, heavy=heavy)


def _onnxruntime(
    artifact: Artifact, point: OperatingPoint, feeds: dict[str, Array], seconds: float
) -> Iterator[OperatorTime]:
    optimised = artifact.engine == "onnxruntime"
    with tempfile.TemporaryDirectory() as folder:
        once = _ProfiledGraph(artifact, point, Path(folder), optimised=optimised)
        _repeat(once.execute, feeds, 1)
        most = max(FEWEST, _MOST_EVENTS // len(once.events()))
    with tempfile.TemporaryDirectory() as folder:
        graph = _ProfiledGraph(artifact, point, Path(folder), optimised=optimised)
        _repeat(graph.execute, feeds, WARM_UP)
        runs = _during(graph.execute, feeds, seconds, most)
        events = graph.events()
        graph.release()
    return _by_node(_own_times(events), runs)


class _ProfiledGraph(_Sessions):
    """A session that writes down what every node took; `folder` is where it does."""

    def __init__(self, artifact: Artifact, point: OperatingPoint, folder: Path, *, optimised: bool) -> None:
        self._folder = folder
        super().__init__(artifact.directory / OnnxRuntimeEngine.entry, artifact.signature, point, optimised)

    def _options(self) -> Any:
        options = super()._options()
        options.enable_profiling = True
        options.profile_file_prefix = str(self._folder / "profile")
        return options

    def events(self) -> list[dict[str, Any]]:
        """All events since the session was opened, in microseconds; nothing is written down any more."""
        found: list[dict[str, Any]] = json.loads(Path(self._idle[0].end_profiling()).read_text())
        return found


@dataclass(slots=True)
class _Node:
    name: str
    op: str
    precision: str
    heavy: bool
    end: int
    own: int


def _own_times(events: list[dict[str, Any]]) -> list[_Node]:
    """Every run of a node after the warm-up, with the time that none of the nodes inside it took."""
    starts = sorted(event["ts"] for event in events if event["name"] == "model_run")
    nodes = [
        (event, kind) for event in events if event["ts"] >= starts[WARM_UP] and (kind := next(_executed([event]), None))
    ]
    # A node and the first one inside it may start in the same microsecond.
    nodes.sort(key=lambda pair: (pair[0]["tid"], pair[0]["ts"], -pair[0]["dur"]))
    found: list[_Node] = []
    around: list[tuple[int, _Node]] = []
    for event, (op, precision, heavy) in nodes:
        end = event["ts"] + event["dur"]
        node = _Node(event["name"].removesuffix("_kernel_time"), op, precision, heavy, end, event["dur"])
        # Times are cut to whole microseconds: the last node inside may seem to end after the one around it.
        while around and (around[-1][0] != event["tid"] or around[-1][1].end <= event["ts"]):
            around.pop()
        if around:
            around[-1][1].own -= event["dur"]
        around.append((event["tid"], node))
        found.append(node)
    return found


def _by_node(nodes: list[_Node], runs: int) -> Iterator[OperatorTime]:
    groups: defaultdict[tuple[str, str, str, bool], list[int]] = defaultdict(list)
    for node in nodes:
        groups[node.name, node.op, node.precision, node.heavy].append(max(0, node.own))
    for (name, op, precision, heavy), times in groups.items():
        us = sum(times) / runs
        yield OperatorTime(name=name, op=op, precision=precision, us=us, calls=len(times), heavy=heavy)


_TELLERS: dict[str, Callable[[Artifact, OperatingPoint, dict[str, Array], float], Iterator[OperatorTime]]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "onnx-reference": _onnxruntime,
}


def _repeat(execute: Callable[[dict[str, Array]], object], feeds: dict[str, Array], times: int) -> None:
    for _ in range(times):
        execute(feeds)


def _during(
    execute: Callable[[dict[str, Array]], object], feeds: dict[str, Array], seconds: float, most: int | None = None
) -> int:
    """Run until `seconds` have passed, at least a few times; how often that was."""
    end, runs = time.perf_counter() + seconds, 0
    while runs < FEWEST or (time.perf_counter() < end and (most is None or runs < most)):
        execute(feeds)
        runs += 1
    return runs
