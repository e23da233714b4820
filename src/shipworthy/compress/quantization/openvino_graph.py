"""Surgery on an OpenVINO graph with FakeQuantize nodes: which operations they belong to, and how one becomes float."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...contract import Array
from ...runtime.engine_openvino import bodies_of

_RECURRENT_NAMES = "LSTMSequence GRUSequence RNNSequence LSTMCell GRUCell RNNCell"
_HEAVY_NAMES = """
    Convolution GroupConvolution ConvolutionBackpropData GroupConvolutionBackpropData DeformableConvolution MatMul
    ScaledDotProductAttention"""
_MOVEMENT_NAMES = """
    Reshape Transpose Squeeze Unsqueeze Gather GatherND GatherElements Split VariadicSplit Concat MaxPool
    AdaptiveMaxPool ReduceMax StridedSlice Slice ShuffleChannels Broadcast Tile Pad Minimum Maximum ConvertLike
    DepthToSpace SpaceToDepth BatchToSpace SpaceToBatch ScatterUpdate ScatterNDUpdate ScatterElementsUpdate"""

RECURRENT = frozenset(_RECURRENT_NAMES.split())
HEAVY = RECURRENT.union(_HEAVY_NAMES.split())
"""What an int8 multiply instruction makes faster."""
QUANTIZER = "FakeQuantize"
_MOVEMENT = frozenset(_MOVEMENT_NAMES.split())
"""Operations that hand a quantized value on as it is, so that the quantizer may stand before them."""
_ALL_PORTS = frozenset({"Concat", "Minimum", "Maximum"})


@dataclass(frozen=True, slots=True)
class Site:
    """An input that reads quantized values."""

    node: Any
    port: int

    @property
    def source(self) -> Any:
        return self.node.input_value(self.port)

    def connect(self, source: Any) -> None:
        self.node.input(self.port).replace_source_output(source)


@dataclass(slots=True)
class Operation:
    """A heavy operation, or a table of embeddings, with the quantizers that are there for its sake."""

    name: str
    node: Any
    body: str
    """Path of the branch that it is in; empty for the main graph."""
    inputs: tuple[Site, ...]
    behind: list[Site] = field(default_factory=list)
    """Inputs of light operations (additions, pools) that read its result quantized."""

    @property
    def kind(self) -> str:
        return str(self.node.get_type_name())

    @property
    def sites(self) -> tuple[Site, ...]:
        return (*self.inputs, *self.behind)


def graphs(model: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The graph and those of its branches and loops, with the path that leads there."""
    yield path, model
    for node in model.get_ordered_ops():
        for number, body in enumerate(bodies_of(node)):
            yield from graphs(body, f"{path}{node.get_friendly_name()}/{number}/")


def operations(model: Any) -> list[Operation]:
    """The operations with quantized inputs, in the graph's order, branches behind what they belong to."""
    return [operation for path, graph in graphs(model) for operation in _within(graph, path)]


def _within(graph: Any, path: str) -> list[Operation]:
    found: dict[str, Operation] = {}
    light: list[Site] = []
    for node in graph.get_ordered_ops():
        if node.get_type_name() == QUANTIZER or _moves(node):
            continue
        sites = tuple(Site(node, port) for port in range(node.get_input_size()) if _quantized(node.input_value(port)))
        if sites and (node.get_type_name() in HEAVY or any(_reads_weights(site.source) for site in sites)):
            found[node.get_name()] = Operation(path + node.get_friendly_name(), node, path, sites)
        else:
            light.extend(sites)
    for site in light:
        if (owner := _owner(site, found)) is not None:
            owner.behind.append(site)
    return list(found.values())


def _moves(node: Any) -> bool:
    """A Gather from a table of weights is an operation of its own."""
    kind = node.get_type_name()
    return kind in _MOVEMENT and not (kind == "Gather" and _reads_weights(node.input_value(0)))


def _data(node: Any) -> list[int]:
    return list(range(node.get_input_size())) if node.get_type_name() in _ALL_PORTS else [0]


def _quantized(source: Any) -> bool:
    node = source.get_node()
    if node.get_type_name() == QUANTIZER:
        return True
    return _moves(node) and any(_quantized(node.input_value(port)) for port in _data(node))


def _reads_weights(source: Any) -> bool:
    node = source.get_node()
    if node.get_type_name() == QUANTIZER:
        return of_weights(node)
    return node.get_type_name() in ("Reshape", "Transpose") and _reads_weights(node.input_value(0))


def of_weights(quantizer: Any) -> bool:
    node = quantizer.input_value(0).get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Transpose", "Multiply"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _owner(site: Site, found: Mapping[str, Operation]) -> Operation | None:
    """The nearest operation upstream, which made the value; downstream where it comes from an input."""
    return (
        _nearest(site.source.get_node(), found, _sources)
        or _nearest(site.node, found, _users)
        or next(iter(found.values()), None)
    )


def _nearest(start: Any, found: Mapping[str, Operation], step: Callable[[Any], Iterator[Any]]) -> Operation | None:
    queue, seen = deque([start]), {start.get_name()}
    while queue:
        node = queue.popleft()
        if node.get_name() in found:
            return found[node.get_name()]
        for other in step(node):
            if other.get_name() not in seen:
                seen.add(other.get_name())
                queue.append(other)
    return None


def _sources(node: Any) -> Iterator[Any]:
    return (value.get_node() for value in node.input_values())


def _users(node: Any) -> Iterator[Any]:
    return (target.get_node() for output in node.outputs() for target in output.get_target_inputs())


def clone(node: Any, sources: list[Any]) -> Any:
    """The same operation on other inputs."""
    from openvino.utils.node_factory import NodeFactory  # type: ignore[import-untyped]

    info = node.get_type_info()
    return NodeFactory(info.version_id or "opset1").create(node.get_type_name(), sources, node.get_attributes())


def rebuilt(source: Any, at_quantizer: Callable[[Any], Any]) -> Any:
    """The value at `source`, with what `at_quantizer` gives in the place of each quantizer that it came from.

    What stands between is copied, so that other readers keep their own."""
    made: dict[str, Any] = {}

    def of(value: Any) -> Any:
        node = value.get_node()
        if node.get_type_name() == QUANTIZER:
            return at_quantizer(node)
        if not _quantized(value):
            return value
        if node.get_name() not in made:
            sources = node.input_values()
            for port in _data(node):
                sources[port] = of(sources[port])
            made[node.get_name()] = clone(node, sources)
        return made[node.get_name()].output(value.get_index())

    return of(source)


def unquantized(quantizer: Any) -> Any:
    return quantizer.input_value(0)


def copied(quantizer: Any) -> Any:
    return clone(quantizer, quantizer.input_values()).output(0)


def make_float(operation: Operation, biases: Mapping[str, Array]) -> None:
    """Take the operation's quantizers away, and what was added to its bias against their error."""
    for site in operation.sites:
        site.connect(rebuilt(site.source, unquantized))
    if operation.name in biases:
        restore_bias(operation.node, biases[operation.name])


def bypass_quantizers(model: Any) -> None:
    for _, graph in graphs(model):
        for node in graph.get_ordered_ops():
            if node.get_type_name() == QUANTIZER:
                for target in node.output(0).get_target_inputs():
                    target.replace_source_output(node.input_value(0))


def biases_of(model: Any) -> dict[str, Array]:
    """The bias that is added to each heavy operation, by its name."""
    return {
        path + node.get_friendly_name(): site.source.get_node().data.copy()
        for path, graph in graphs(model)
        for node in graph.get_ordered_ops()
        if node.get_type_name() in HEAVY and (site := _bias(node)) is not None
    }


def restore_biases(model: Any, biases: Mapping[str, Array]) -> Any:
    """The model, with each operation's bias as it was before it was corrected."""
    for operation in operations(model):
        if operation.name in biases:
            restore_bias(operation.node, biases[operation.name])
    return model


def restore_bias(node: Any, bias: Array) -> None:
    from openvino import opset13  # type: ignore[import-untyped]

    if (site := _bias(node)) is not None:
        constant = opset13.constant(bias)
        constant.set_friendly_name(site.source.get_node().get_friendly_name())
        site.connect(constant.output(0))


def _bias(node: Any) -> Site | None:
    for target in node.output(0).get_target_inputs():
        user = target.get_node()
        if user.get_type_name() == "Add":
            site = Site(user, 1 - target.get_index())
            if site.source.get_node().get_type_name() == "Constant":
                return site
    return None
