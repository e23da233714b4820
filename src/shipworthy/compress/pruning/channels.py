"""Which channels can only be removed together, and their removal: Torch-Pruning's dependency graph does both
(Fang et al. 2023, "DepGraph: Towards Any Structural Pruning")."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ...contract import Array, Arrays, Contract
from ...errors import CompressError, MissingExtra
from ...exporters.noise import collected
from ...model.live import private_copy
from ...model.run import named_outputs
from ..reports import output_shapes
from ..steps import device_of

Plan: TypeAlias = Mapping[str, Sequence[int]]
"""For each root layer, the output channels that it loses."""

_TRIED = 3
"""Feeds that each way of removing channels is tried on; what comes out in the end runs on all."""
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads")
"""What modules call the number of their attention heads."""


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Output channels of one layer, with all that must go where they go."""

    root: str
    """Path of the layer whose output channels are counted."""
    members: tuple[str, ...]
    """Paths of the layers that lose output channels."""
    units: tuple[tuple[int, ...], ...]
    """Channels of the root that can only be removed together: one each, or one in each group, or a whole head."""
    importance: Array
    """Of each unit [units]: the norm of its weights in all layers, as a multiple of the group's mean."""

    @property
    def ascending(self) -> Array:
        """Positions of the units, the least important one first."""
        return np.argsort(self.importance, kind="stable")

    def least(self, count: int) -> list[int]:
        """Channels of the root that go when `count` units go."""
        return sorted(channel for unit in self.ascending[:count] for channel in self.units[unit])


@dataclass(frozen=True, slots=True)
class Cutter:
    """Physical removal of channels from one module."""

    module: nn.Module
    contract: Contract
    feeds: tuple[Arrays, ...]
    """The first one is traced, with two samples; then others, the smallest first."""
    shapes: tuple[Mapping[str, tuple[int, ...]], ...]
    """Of the outputs for each of the feeds, which must stay."""
    norm: Literal[1, 2]

    @classmethod
    def of(cls, module: nn.Module, contract: Contract, feeds: Sequence[Arrays], norm: Literal[1, 2]) -> Cutter:
        ordered = (feeds[0], *sorted(feeds[1:], key=lambda one: sum(array.size for array in one.values())))
        shapes = tuple(output_shapes(module, contract, one) for one in ordered)
        return cls(module, contract, ordered, shapes, norm)

    def cut(self, plan: Plan) -> nn.Module:
        """A copy without the channels of the plan, which has not been run yet. The module itself stays as it is.

        Raises CompressError where a layer would be left without any."""
        private = private_copy(self.module, self.contract.name)
        trained = {name: parameter.requires_grad for name, parameter in private.named_parameters()}
        with collected(), torch.enable_grad():
            graph = self._graph(private)
            for root, channels in plan.items():
                layer = private.get_submodule(root)
                group = graph.get_pruning_group(layer, _remover(graph, layer), list(channels))
                if not graph.check_pruning_group(group):
                    raise CompressError(root, f"cannot lose {len(channels)} channels", "prune less")
                group.prune()
        for name, parameter in private.named_parameters():
            parameter.requires_grad_(trained.get(name, True))
            parameter.grad = None
        return private.eval()

    def check(self, cut: nn.Module, feeds: int | None = None) -> nn.Module:
        """The same module, run on all feeds or on the first ones.

        Raises CompressError where its outputs have other shapes, and what its forward raises."""
        for one, wanted in zip(self.feeds[:feeds], self.shapes[:feeds], strict=True):
            found = output_shapes(cut, self.contract, one)
            if found != wanted:
                raise CompressError("pruning", f"would change the shapes of outputs from {dict(wanted)} to {found}")
        return cut

    def groups(self) -> tuple[list[ChannelGroup], dict[str, str]]:
        """The groups that can be pruned, and for each other one (by its root) why it cannot.

        Raises CompressError where the module cannot be traced at all."""
        private = private_copy(self.module, self.contract.name)
        with collected(), torch.enable_grad():
            graph = self._graph(private)
            candidates = list(self._candidates(graph, private))
        found, refused = [], {}
        for candidate, forms in candidates:
            if not forms:
                refused[candidate.root] = "its channels cannot be told apart, or cannot be divided"
                continue
            group, reason = self._first_that_cuts(candidate, forms)
            if group is None:
                refused[candidate.root] = reason
            else:
                found.append(group)
        return found, refused

    def _graph(self, private: nn.Module) -> Any:
        import_pruning()
        import torch_pruning

        for parameter in private.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        inputs = tuple(torch.tensor(self.feeds[0][name], device=device_of(private)) for name in self.contract.inputs)
        try:
            return torch_pruning.DependencyGraph().build_dependency(
                private.eval(), inputs, forward_fn=_forward, output_transform=_differentiable, verbose=False
            )
        except Exception as exc:  # it runs the user's code, and fails in ways of its own on what it does not know
            raise CompressError(
                self.contract.name,
                f"cannot be traced for removing channels ({type(exc).__name__}: {first_line(exc)})",
                "prune unstructured, or write the forward with tensor operations that have gradients",
            ) from exc

    def _candidates(self, graph: Any, private: nn.Module) -> Iterator[tuple[ChannelGroup, list[_Units]]]:
        """Each group as it stands, and the ways in which its channels may have to be taken together."""
        import torch_pruning

        scorer = torch_pruning.importance.GroupMagnitudeImportance(
            p=self.norm, normalizer="mean", target_types=[nn.modules.conv._ConvNd, nn.Linear]
        )
        for group in graph.get_all_groups(root_module_types=[nn.modules.conv._ConvNd, nn.Linear]):
            layer = group[0].dep.target.module
            root = _path(private, layer)
            members = [item.dep.target.module for item in group if graph.is_out_channel_pruning_fn(item.dep.handler)]
            paths = tuple(_path(private, member) for member in members if _is_layer(member))
            if _is_output(group, graph):
                continue
            scores = scorer(group)
            count = graph.get_out_channels(layer)
            if scores is None or len(scores) != count:
                yield ChannelGroup(root, paths, (), np.zeros(0)), []
                continue
            norms = np.nan_to_num(scores.double().numpy(), nan=1.0)
            yield ChannelGroup(root, paths, (), norms), _forms(count, _channel_groups(graph, group), private, root)

    def _first_that_cuts(self, group: ChannelGroup, forms: list[_Units]) -> tuple[ChannelGroup | None, str]:
        """The group with the first form of units of which one can be removed; or why none of them can."""
        reason = ""
        for units in forms:
            importance = np.array([group.importance[list(unit)].mean() for unit in units])
            formed = ChannelGroup(group.root, group.members, units, importance)
            try:
                self.check(self.cut({group.root: formed.least(1)}), _TRIED)
            except Exception as exc:  # noqa: BLE001 - the user's forward may refuse its new width in any way
                reason = reason or f"the model does not run without one of its channels ({first_line(exc)})"
            else:
                return formed, ""
        return None, reason


_Units: TypeAlias = tuple[tuple[int, ...], ...]


def import_pruning() -> None:
    """Raises MissingExtra."""
    try:
        import torch_pruning  # noqa: F401
    except ModuleNotFoundError as exc:
        raise MissingExtra("structured pruning", "torch_pruning", "build") from exc


def _forms(count: int, groups: int, module: nn.Module, root: str) -> list[_Units]:
    if groups > 1:
        return [_across(count, groups)] if count % groups == 0 and count > groups else []
    forms: list[_Units] = [tuple((channel,) for channel in range(count))] if count > 1 else []
    for heads in _head_counts(module, root):
        if heads > 1 and count % heads == 0 and count > heads:
            size = count // heads
            forms.append(tuple(tuple(range(head * size, (head + 1) * size)) for head in range(heads)))
            forms.append(_across(count, heads))
    return forms


def _across(count: int, groups: int) -> _Units:
    """The same place in each group, so that the groups stay of one size."""
    size = count // groups
    return tuple(tuple(place + group * size for group in range(groups)) for place in range(size))


def _head_counts(module: nn.Module, root: str) -> list[int]:
    """What the modules around a layer say of their number of attention heads, the nearest first."""
    parts, found = root.split("."), []
    for depth in range(len(parts) - 1, -1, -1):
        owner = module.get_submodule(".".join(parts[:depth]))
        found += [value for name in _HEADS if isinstance(value := getattr(owner, name, None), int)]
    return list(dict.fromkeys(found))


def _channel_groups(graph: Any, group: Any) -> int:
    """Into how many groups of one size the channels fall: of a grouped convolution, group normalisation, or heads."""
    found = [1]
    for item in group:
        layer, handler = item.dep.target.module, item.dep.handler
        depthwise = isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.out_channels
        if depthwise or not isinstance(layer, nn.Module):
            continue
        if isinstance(layer, nn.MultiheadAttention):
            found.append(layer.num_heads)
        pruner = graph.get_pruner_of_module(layer)
        outside = graph.is_out_channel_pruning_fn(handler)
        found.append(pruner.get_out_channel_groups(layer) if outside else pruner.get_in_channel_groups(layer))
    return math.lcm(*found)


def _is_output(group: Any, graph: Any) -> bool:
    """Whether the channels reach the end of the graph, where the caller counts on them."""
    return any(
        not item.dep.target.outputs and graph.is_out_channel_pruning_fn(item.dep.handler)
        for item in group
        if not isinstance(item.dep.target.module, nn.Parameter)
    )


def _is_layer(module: object) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd | nn.Linear)


def _path(module: nn.Module, layer: object) -> str:
    names = (name for name, other in module.named_modules() if other is layer)
    return str(next(names))


def _remover(graph: Any, layer: nn.Module) -> Callable[..., Any]:
    remover: Callable[..., Any] = graph.get_pruner_of_module(layer).prune_out_channels
    return remover


def first_line(exc: BaseException) -> str:
    return (str(exc).strip().split("\n") or [""])[0][:160]


def _forward(module: nn.Module, inputs: tuple[Tensor, ...]) -> object:
    return module(*inputs)


def _differentiable(result: object) -> list[Tensor]:
    found = [tensor for tensor in named_outputs(result).values() if tensor.grad_fn is not None]
    if not found:
        raise ValueError("no output has a gradient")
    return found
