"""Weights set to zero: which, how many, and that they stay so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from prune_nets import Plain, contract_for
from torch import nn

from shipworthy.compress.made import Reshaped
from shipworthy.compress.methods import Training, Unstructured
from shipworthy.compress.pruning import prune
from shipworthy.compress.pruning.unstructured import masks_for, packed_bytes
from shipworthy.errors import CompressError

pytestmark = pytest.mark.usefixtures("single_threaded")

TASK = {"task": {"kind": "classification"}}


def rows(count: int = 48) -> dict[str, Any]:
    x = np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32)
    return {"x": x, "label": (x[:, 0] > 0).astype(np.int64)}


def sparse(module: nn.Module, share: float = 0.5, **more: Any) -> Reshaped:
    method = Unstructured(share=share, **{k: more.pop(k) for k in ("scope", "training") if k in more})
    return prune(module, contract_for([8], **TASK), method, progress=False, **more)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(4)


def test_the_smallest_of_all_weights_go() -> None:
    module = Plain()
    found = sparse(module, 0.3)
    assert found.model.module is not None
    before = torch.cat([p.detach().flatten() for n, p in module.named_parameters() if "weight" in n])
    after = torch.cat([p.detach().flatten() for n, p in found.model.module.named_parameters() if "weight" in n])
    count = round(0.3 * before.numel())
    assert int((after == 0).sum()) == count
    assert before[after == 0].abs().max() <= before[after != 0].abs().min()
    assert torch.equal(after[after != 0], before[after != 0])
    assert found.report.parameters_after == found.report.parameters_before - count
    assert found.report.bytes_after == found.report.bytes_before


def test_each_layer_loses_its_own_share() -> None:
    for layer in sparse(Plain(), 0.25, scope="layer").report.layers:
        assert layer.zeros == round(0.25 * (layer.zeros + layer.ones))
        assert layer.sparsity == pytest.approx(0.25)


def test_a_neuron_without_any_weight_is_pruned_in_the_report() -> None:
    module = Plain()
    with torch.no_grad():
        module.first.weight[[2, 7]] = 1e-9
    layers = {layer.name: layer for layer in sparse(module, 0.1).report.layers}
    assert (layers["first"].neurons_kept, layers["first"].neurons_pruned) == (14, 2)
    assert layers["first"].mask_shape == (16, 8)
    assert layers["first"].kind == "Linear"


def test_transposed_convolutions_count_their_own_output_channels() -> None:
    module = nn.ConvTranspose2d(3, 6, 2)
    with torch.no_grad():
        module.weight[:, 1] = 0
    found = prune(module, contract_for([3, 4, 4]), Unstructured(share=1 / 6), progress=False)
    (layer,) = found.report.layers
    assert (layer.neurons_kept, layer.neurons_pruned) == (5, 1)


def test_a_weight_that_two_layers_share_counts_once() -> None:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    assert list(masks_for(nn.Sequential(first, second), 0.5, "layer")) == ["0"]


class Restless(torch.optim.SGD):
    """Moves every weight, with or without a gradient."""

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(0.01)


@pytest.mark.parametrize("frozen", [False, True])
def test_zeros_survive_fine_tuning(frozen: bool) -> None:
    module = Plain().requires_grad_(not frozen)
    found = sparse(module, 0.6, training=Training(epochs=3, lr=1e-2), train=rows(), validation=rows())
    assert found.model.module is not None
    tuned = {n: p for n, p in found.model.module.named_parameters() if "weight" in n}
    zeros = sum(int((p == 0).sum()) for p in tuned.values())
    assert zeros == sum(layer.zeros for layer in found.report.layers)
    assert any((p != dict(module.named_parameters())[n])[p != 0].any() for n, p in tuned.items())
    assert not any(p._backward_hooks for p in found.model.module.parameters())
    assert len(found.report.epochs) == 3


def test_an_optimiser_that_moves_zeros_is_corrected() -> None:
    from shipworthy.compress.pruning.unstructured import apply_masks, zeros_held
    from shipworthy.compress.training import train

    module = Plain()
    masks = masks_for(module, 0.5, "global")
    apply_masks(module, masks)
    from shipworthy.compress.steps import default_step
    from shipworthy.data import as_dataset

    contract = contract_for([8], **TASK)
    with zeros_held(module, masks):
        train(
            module,
            default_step(contract),
            as_dataset(rows(), contract),
            Training(epochs=1),
            validate=None,
            checkpoint=None,
            told=lambda _: None,
            optimizer=lambda parameters: Restless(parameters, lr=0.1),
        )
    for name, mask in masks.items():
        assert torch.equal(module.get_submodule(name).weight != 0, mask)


def test_global_and_per_layer_are_compared_at_equal_sparsity() -> None:
    (compared, packed) = sparse(Plain(), 0.5, validation=rows()).report.notes
    assert "the smallest of all moves" in compared and "the smallest of each layer moves" in compared
    assert compared.count("leaves the metric at") == 2
    assert "MB" in packed


def test_a_layer_that_is_emptied_is_a_warning() -> None:
    module = Plain()
    with torch.no_grad():
        module.second.weight.mul_(1e-6)
    (finding,) = (f for f in sparse(module, 0.7).findings if f.rule == "layer-pruned-away")
    assert (finding.where, finding.severity) == ("second", "warning")


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(CompressError, match="neither convolutions nor linear layers"):
        prune(nn.LayerNorm(8), contract_for([8]), Unstructured(share=0.5), progress=False)


def test_a_method_of_another_kind_is_refused() -> None:
    with pytest.raises(CompressError, match="method: is a Training"):
        prune(Plain(), contract_for([8]), Training(), progress=False)  # type: ignore[arg-type]


def test_weights_in_bfloat16_are_packed_by_their_bytes() -> None:
    layer = nn.Linear(64, 64).to(torch.bfloat16)
    dense = packed_bytes(layer)
    with torch.no_grad():
        layer.weight.zero_()
    assert 0 < packed_bytes(layer) < dense <= 1.1 * 2 * 65 * 64
