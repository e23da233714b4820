"""Batch normalisation folded into the convolution before it, as every engine does it before it quantizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ...contract import Arrays, Contract
from ...exporters.job import Case, Job, NoProgramError
from ...exporters.program import to_program
from ...model import LoadedModel

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a graph of the module shows."""

    pairs: tuple[tuple[str, str], ...]
    """Paths of a convolution and of the normalisation that alone takes its output."""
    attention: bool


def seen_in(module: nn.Module, contract: Contract, feeds: Arrays) -> Seen | None:
    """Follow the module through torch.export; None where that does not take it."""
    job = Job(LoadedModel("module", module), contract, "aoti", "fp32", Path(), (Case(dict(feeds), {}),))
    try:
        program = to_program(job)
    except NoProgramError:
        return None
    names = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    nodes = list(program.graph.nodes)
    attention = any("scaled_dot_product" in str(node.target) or "softmax" in str(node.target) for node in nodes)
    owners = Counter(_path(names, node.args[1]) for node in nodes if _is(node, "conv", "batch_norm"))
    found = [
        (_path(names, node.args[0].args[1]), _path(names, node.args[1]))
        for node in nodes
        if _is(node, "batch_norm") and _is(node.args[0], "conv") and len(node.args[0].users) == 1
    ]
    used_once = [(conv, norm) for conv, norm in found if owners[conv] == 1 == owners[norm]]
    return Seen(tuple((conv, norm) for conv, norm in used_once if conv and norm), attention)


def _is(node: object, *kinds: str) -> bool:
    return isinstance(node, torch.fx.Node) and str(node.target).startswith(tuple(f"aten.{kind}" for kind in kinds))


def _path(names: dict[str, str], weight: object) -> str | None:
    """The module that owns a weight, within the exporter's wrapper, which calls it `module`."""
    full = names.get(weight.name) if isinstance(weight, torch.fx.Node) else None
    return None if full is None else full.removeprefix("module.").rpartition(".")[0]


def fold(module: nn.Module, pairs: tuple[tuple[str, str], ...]) -> int:
    """Fold in place; gives how many normalisations are gone. What is of another type, or shared, stays as it is."""
    return sum(1 for conv, norm in pairs for _ in _folded(module, conv, norm))


def _folded(module: nn.Module, conv_path: str, norm_path: str) -> Iterator[None]:
    conv, norm = module.get_submodule(conv_path), module.get_submodule(norm_path)
    if type(conv) not in _CONVOLUTIONS or type(norm) not in _NORMALISATIONS or hasattr(conv, "parametrizations"):
        return
    assert isinstance(conv, _CONVOLUTIONS)
    assert isinstance(norm, _NORMALISATIONS)
    if norm.running_mean is None or norm.running_var is None or _shared(module, conv.weight):
        return
    trained = conv.weight.requires_grad
    with torch.no_grad():
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
    # The new bias is frozen where the convolution had none: it takes the place of the normalisation's, which was not.
    conv.bias.requires_grad_(trained)
    module.set_submodule(norm_path, nn.Identity())
    yield


def _shared(module: nn.Module, weight: torch.Tensor) -> bool:
    owners = [
        name
        for name, part in module.named_modules(remove_duplicate=False)
        if any(own is weight for own in part.parameters(recurse=False))
    ]
    return len(owners) > 1
