"""What a profile found. Times are microseconds of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from ..contract import Strict
from ..contract.spec import Precision
from ..runtime import OperatingPoint
from ..runtime.operators import OperatorTime

if TYPE_CHECKING:
    from rich.console import Group

Kind: TypeAlias = Literal["module", "region", "heavy", "operator"]


class OperatorRow(Strict):
    """An operation of PyTorch's with tensors of one shape."""

    name: str
    """As the dispatcher has it, such as `aten::addmm`."""
    shapes: tuple[tuple[int, ...], ...]
    """Of its tensor arguments."""
    calls: float
    """In one run."""
    self_us: float
    """On the processor, without the operations that it calls."""
    total_us: float
    """On the processor, with them."""
    cuda_us: float | None = None
    """Of the kernels that it started; None without a device."""
    bytes: int
    """That it allocated itself, less what it freed, on the device that was profiled."""
    flops: int | None = None
    """Floating-point operations of products and convolutions in one run, a multiply-add being two; None for others,
    and where no formula is known."""
    heavy: bool = False
    """True for matrix products and convolutions."""


class Inside(Strict):
    """An operation's share of a region."""

    name: str
    calls: float
    self_us: float


class RegionRow(Strict):
    """A `record_function` of the user's own."""

    name: str
    calls: float
    us: float
    cuda_us: float | None = None
    bytes: int
    """Allocated inside, less what was freed."""
    flops: int | None = None
    inside: tuple[Inside, ...]
    """The operations in it, those with the most time of their own first."""


class ModuleRow(Strict):
    """One module of the tree, at the first path that leads to it."""

    path: str
    """As named_modules has it; empty for the model itself."""
    kind: str
    """Its class."""
    calls: float
    us: float
    """With its children."""
    own_us: float
    """Without its children."""
    cuda_us: float | None = None
    parameters: int
    """With its children, each once."""
    own_parameters: int
    """Held by itself and by no module before it."""
    bytes: int
    """Of parameters and buffers, with its children, each once."""
    own_bytes: int
    shared: bool = False
    """True where it holds a parameter that another module holds too."""
    flops: int
    """In one run, with its children; operations without a formula count as 0."""


class Block(Strict):
    """A part of the flame picture: a module, a region or an operation, and what it called."""

    name: str
    kind: Kind
    us: float
    calls: float
    inside: tuple[Block, ...] = ()


class CudaMemory(Strict):
    """Of the CUDA device, in bytes, as PyTorch's allocator counts it."""

    device: str
    allocated: int
    """Held by tensors after the runs."""
    reserved: int
    peak_allocated: int
    peak_reserved: int


class TorchProfile(Strict):
    """The model in eager PyTorch, fp32 as it is."""

    device: str
    threads: int
    batch: int
    steps: int
    """Runs that were profiled."""
    counted: int
    """Of these, the faster half: all times are means over them."""
    feeds: dict[str, str]
    """What was fed, such as `float32 [8, 3, 224, 224]`."""
    run_us: float
    """Of a run without the profiler: the mean of the faster half of some."""
    profiled_us: float
    """Of a run with it. The difference is what looking costs."""
    parameters: int
    """Shared ones once."""
    bytes: int
    """Of parameters and buffers."""
    flops: int
    """Of one run."""
    uncounted: tuple[str, ...] = ()
    """Matrix products and the like whose floating-point operations no formula counts."""
    peak_bytes: int
    """The most that a run held at once on the processor, besides weights and inputs."""
    cuda: CudaMemory | None = None
    """None where no CUDA device was profiled."""
    operators: tuple[OperatorRow, ...]
    regions: tuple[RegionRow, ...]
    modules: tuple[ModuleRow, ...]
    """In the order of named_modules."""
    flame: Block


class TypeTime(Strict):
    """All nodes of one type and precision together."""

    op: str
    precision: str
    nodes: int
    us: float
    share: float
    """Of the sum over all nodes."""


class EngineProfile(Strict):
    """One engine on one graph, with its own clock."""

    name: str
    """Of the engine, or of the package's variant."""
    engine: str
    precision: Precision
    point: OperatingPoint
    us: float
    """Sum over all nodes."""
    types: tuple[TypeTime, ...]
    """The slowest first."""
    nodes: tuple[OperatorTime, ...]
    """The slowest first."""


class Untold(Strict):
    """An engine or a variant that has no part in the profile, and why."""

    name: str
    why: str


class ProfileReport(Strict):
    """Where the time of one run goes, in PyTorch and in each engine."""

    name: str
    created: str
    """UTC, ISO 8601."""
    host: str
    """The processor's name."""
    torch: TorchProfile | None = None
    """None for a package and for an .onnx file, which have no module."""
    engines: tuple[EngineProfile, ...] = ()
    untold: tuple[Untold, ...] = ()
    trace: str | None = None
    """The Chrome trace file that was written; open it in chrome://tracing or Perfetto."""

    def table(self, top: int = 10) -> Group:
        """The first `top` rows of every table, for rich, within 80 columns."""
        from .table import render_tables

        return render_tables(self, top)

    def html(self, top: int = 30) -> str:
        """One HTML file with a flame picture, which works offline. Raises MissingExtra without the build extra."""
        from .page import render_html

        return render_html(self, top)

    def json(self) -> str:  # type: ignore[override]
        """Everything, as JSON."""
        return self.model_dump_json(indent=2)

    def _repr_html_(self) -> str:
        """In a notebook the page stands in a frame, so that its styles do not leak into the notebook's."""
        import html

        page = html.escape(self.html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:900px;border:0"></iframe>'
