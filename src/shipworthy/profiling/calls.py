"""The profiler's events as a tree of calls: modules and regions around operations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..runtime.torch_profile import is_heavy
from .report import Block, Kind

if TYPE_CHECKING:
    from torch.autograd.profiler_util import FunctionEvent

_STEP = "ProfilerStep"
_ALLOCATING = frozenset({"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::resize_", "aten::new_empty"})
"""Operations whose memory is their caller's."""
_QUICKEST = 0.002
"""Share of the whole below which the picture shows no block of its own."""


@dataclass(slots=True)
class Call:
    """One event: a module's or a region's, or an operation's."""

    name: str
    kind: Kind
    us: float
    cuda_us: float
    bytes: int
    """That it allocated itself, less what it freed; what it called to allocate for it is no one else's."""
    shapes: tuple[tuple[int, ...], ...]
    flops: int
    inside: list[Call] = field(default_factory=list)

    @property
    def own_us(self) -> float:
        return max(0.0, self.us - sum(call.us for call in self.inside))

    @property
    def own_cuda_us(self) -> float:
        return max(0.0, self.cuda_us - sum(call.cuda_us for call in self.inside))

    def walk(self) -> Iterator[Call]:
        yield self
        for call in self.inside:
            yield from call.walk()


class Calls:
    """Everything that ran in the faster half of the profiled runs: what else a host does only makes runs slower."""

    def __init__(self, events: Sequence[FunctionEvent], paths: Mapping[str, str], *, on_cuda: bool) -> None:
        self.paths = paths
        """The module's path by the name that its events have."""
        self.on_cuda = on_cuda
        roots = [event for event in events if event.cpu_parent is None and not _on_device(event)]
        steps = sorted((event for event in roots if event.name.startswith(_STEP)), key=_inner_us)
        kept = steps[: (len(steps) + 1) // 2]
        self.steps = len(kept)
        self._steps = [self._call(event) for event in kept]
        # Threads of the model's own (torch.jit.fork, data parallelism) start trees of their own.
        others = (event for event in roots if not event.name.startswith(_STEP))
        self._others = [self._call(event) for event in others if any(_during(event, step) for step in kept)]
        self.step_us = sum(_inner_us(event) for event in kept) / self.steps

    def _call(self, event: FunctionEvent) -> Call:
        named = event.is_user_annotation
        inside = [self._call(child) for child in event.cpu_children]
        kind: Kind = (
            ("module" if event.name in self.paths else "region")
            if named
            else "heavy"
            if is_heavy(event.name) or any(call.kind == "heavy" for call in inside)
            else "operator"
        )
        of_others = (child for child in event.cpu_children if child.name not in _ALLOCATING)
        allocates = event.name in _ALLOCATING and event.cpu_parent is not None
        memory = _memory(event, self.on_cuda) - sum(_memory(child, self.on_cuda) for child in of_others)
        return Call(
            name=event.name,
            kind=kind,
            us=_us(event),
            cuda_us=event.device_time_total,
            bytes=0 if allocates else memory,
            shapes=tuple(_shapes(event.input_shapes)),
            # For additions and the like there are formulas too, but not for most of what computes as much.
            flops=(event.flops or 0) if kind == "heavy" else 0,
            inside=inside,
        )

    def all(self) -> Iterator[Call]:
        """Every call but the steps themselves."""
        for step in self._steps:
            for call in step.inside:
                yield from call.walk()
        for call in self._others:
            yield from call.walk()

    def flame(self) -> Block:
        """The calls of all steps laid over each other: those of one name in one place are one block."""
        top = [call for step in self._steps for call in step.inside]
        blocks = self._blocks(top, _QUICKEST * self.step_us)
        if len(blocks) == 1:
            return blocks[0]
        return Block(name="one run", kind="module", us=self.step_us, calls=1.0, inside=blocks)

    def _blocks(self, calls: Sequence[Call], least: float) -> tuple[Block, ...]:
        groups: defaultdict[tuple[str, Kind], list[Call]] = defaultdict(list)
        for call in calls:
            groups[call.name, call.kind].append(call)
        return tuple(
            self._block(name, kind, group, least)
            for (name, kind), group in groups.items()
            if sum(call.us for call in group) / self.steps >= least
        )

    def _block(self, name: str, kind: Kind, group: Sequence[Call], least: float) -> Block:
        """An operation's inner operations are left out: they are the dispatcher's business."""
        below = [call for one in group for call in one.inside] if kind in ("module", "region") else []
        return Block(
            name=self.paths.get(name, name) if kind == "module" else name,
            kind=kind,
            us=sum(call.us for call in group) / self.steps,
            calls=len(group) / self.steps,
            inside=self._blocks(below, least),
        )


def _us(event: FunctionEvent) -> float:
    return float(event.time_range.elapsed_us())  # type: ignore[no-untyped-call]


def _inner_us(step: FunctionEvent) -> float:
    return sum(_us(event) for event in step.cpu_children)


def _during(event: FunctionEvent, step: FunctionEvent) -> bool:
    return bool(step.time_range.start <= event.time_range.start <= step.time_range.end)


def _memory(event: FunctionEvent, on_cuda: bool) -> int:
    return event.device_memory_usage if on_cuda else event.cpu_memory_usage


def _on_device(event: FunctionEvent) -> bool:
    from torch._C._autograd import DeviceType

    return bool(event.device_type != DeviceType.CPU)


def _shapes(given: object) -> Iterator[tuple[int, ...]]:
    """Of the tensors among the arguments. Numbers have an empty list, and lists of tensors a list of lists."""
    for shape in given if isinstance(given, Sequence) else ():
        if isinstance(shape, Sequence) and shape and all(isinstance(size, int) for size in shape):
            yield tuple(shape)
