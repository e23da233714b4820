"""Channels physically removed: what goes, what stays, and that the answers keep their form."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prune_nets import Classes, Encoder, FixedView, Mixed, Plain, Words, contract_for
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from shipworthy.compress.made import Reshaped
from shipworthy.compress.methods import Structured, Training
from shipworthy.compress.pruning import prune
from shipworthy.compress.pruning.channels import ChannelGroup, Cutter
from shipworthy.compress.pruning.recovery import renew_statistics
from shipworthy.compress.pruning.sensitivity import Sensitivity, removal_order
from shipworthy.compress.pruning.structured import _least_that_suffices
from shipworthy.compress.training import Loader
from shipworthy.contract import Contract
from shipworthy.data import as_dataset
from shipworthy.errors import CompressError
from shipworthy.model import LoadedModel

pytestmark = pytest.mark.usefixtures("single_threaded")

IMAGES, WORDS, ROWS = [3, 8, 8], ["tokens:2..12", 8], [8]


def halved(module: nn.Module, shape: list[Any], share: float = 0.5, **more: Any) -> Reshaped:
    return prune(module.eval(), contract_for(shape), Structured(share=share), progress=False, **more)


def after(found: Reshaped) -> nn.Module:
    assert found.model.module is not None
    return found.model.module


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(4)


@pytest.mark.parametrize(
    ("make", "shape", "feeds"),
    [
        (Mixed, IMAGES, [(1, 3, 8, 8), (5, 3, 8, 8)]),
        (Words, WORDS, [(1, 2, 8), (3, 12, 8)]),
        (Encoder, WORDS, [(1, 2, 8), (3, 12, 8)]),
    ],
)
def test_half_of_the_operations_go_and_the_answers_keep_their_shape(
    make: type[nn.Module], shape: list[Any], feeds: list[tuple[int, ...]]
) -> None:
    module = make().eval()
    found = halved(module, shape)
    report = found.report
    assert report.macs_before is not None and report.macs_after is not None
    assert report.macs_after <= 0.5 * report.macs_before
    assert report.macs_after >= 0.25 * report.macs_before, "not much more than was asked for"
    assert report.parameters_after < report.parameters_before
    assert report.bytes_after == 4 * report.parameters_after + sum(b.nbytes for b in after(found).buffers())
    for size in feeds:
        assert after(found)(torch.randn(size)).shape == module(torch.randn(size)).shape


def test_grouped_and_depthwise_convolutions_stay_consistent() -> None:
    pruned = after(halved(Mixed(), IMAGES))
    assert pruned.depth.groups == pruned.depth.in_channels == pruned.wide.out_channels < 40  # type: ignore[union-attr]
    assert pruned.grouped.out_channels % 4 == 0 and pruned.grouped.groups == 4  # type: ignore[union-attr,operator]
    assert pruned.up.in_channels == pruned.grouped.out_channels + pruned.side.out_channels  # type: ignore[union-attr,operator]


def test_channels_that_carry_nothing_go_first_and_the_answers_stay() -> None:
    module, idle = Plain(32, 32), [1, 5, 8, 11, 14, 20, 29, 30]
    with torch.no_grad():
        for place, (layer, follower) in enumerate(((module.first, module.second), (module.second, module.head))):
            layer.weight[idle] = 0
            layer.bias[idle] = 0
            follower.weight[:, idle] = 0
            assert place < 2
    before = copy.deepcopy(module)
    found = halved(module, ROWS, share=0.3)
    feeds = torch.randn(9, 8)
    torch.testing.assert_close(after(found)(feeds), before(feeds))
    assert (after(found).first.out_features, after(found).second.out_features) == (24, 24)
    assert max(found.report.mean_abs_diff.values()) < 1e-6


def test_whole_heads_go_where_channels_cannot() -> None:
    found = halved(Words(), WORDS)
    attention = after(found).attention
    assert attention.query.out_features % 8 == 0, "a head has 8 channels"
    widths = {layer.out_features for layer in (attention.query, attention.key, attention.value)}
    assert widths == {attention.out.in_features}


def test_a_head_that_carries_nothing_goes_first_and_the_answers_stay() -> None:
    module, idle = Words().eval(), slice(8, 16)
    with torch.no_grad():
        for layer in (module.attention.query, module.attention.key, module.attention.value):
            layer.weight[idle] = 0
            layer.bias[idle] = 0
        module.attention.out.weight[:, idle] = 0
    feeds = {"x": torch.randn(2, 5, 8).numpy()}
    cutter = Cutter.of(module, contract_for(WORDS), [feeds, {"x": feeds["x"][:, :3]}], 2)
    groups, refused = cutter.groups()
    heads = next(group for group in groups if group.root.startswith("attention."))
    assert refused == {} and [len(unit) for unit in heads.units] == [8] * 4
    assert set(heads.members) == {"attention.query", "attention.key", "attention.value"}
    assert heads.least(1) == list(range(8, 16))
    cut = cutter.check(cutter.cut({heads.root: heads.least(1)}))
    torch.testing.assert_close(cut(torch.from_numpy(feeds["x"])), module(torch.from_numpy(feeds["x"])))


def test_heads_whose_number_is_fixed_are_left_alone_with_a_finding() -> None:
    found = halved(Words(told=True), WORDS)
    assert after(found).attention.value.out_features == 32
    left = [finding for finding in found.findings if finding.rule == "channels-left-alone"]
    assert [finding.where.split(".")[0] for finding in left] == ["attention"]
    assert "is invalid for input of size" in left[0].why


def test_a_width_written_into_forward_is_left_alone() -> None:
    found = halved(FixedView(), IMAGES, share=0.4)
    assert after(found).second.out_channels == 16 > after(found).first.out_channels
    assert [f.where for f in found.findings if f.rule == "channels-left-alone"] == ["second"]


def test_less_than_was_asked_for_is_said() -> None:
    found = halved(FixedView(), IMAGES, share=0.99)
    short = next(finding for finding in found.findings if finding.rule == "pruned-less")
    assert short.severity == "warning"
    assert "where 99% was asked for" in short.why


def test_less_is_taken_from_a_sensitive_layer() -> None:
    """Both layers have the same size; to scale up what the first gives makes its loss dear."""
    module = Plain(64, 64)
    layers = {}
    with torch.no_grad():
        module.second.weight[:32] *= 0.01
        module.head.weight[:, :32] *= 0.01
    for layer in halved(module, ROWS, share=0.4).report.layers:
        layers[layer.name] = layer
    assert layers["second"].sensitivity < layers["first"].sensitivity  # type: ignore[operator]
    assert layers["second"].neurons_pruned > layers["first"].neurons_pruned
    assert layers["head"].neurons_pruned == 0 and layers["head"].sensitivity is None


def measured(name: str, error: float, saved: int = 100, importance: Any = None) -> Sensitivity:
    norms = np.ones(20) if importance is None else np.asarray(importance)
    return Sensitivity(ChannelGroup(name, (name,), tuple((n,) for n in range(20)), norms), 0.25, saved, error, None)


def test_the_order_follows_harm_for_each_operation_saved() -> None:
    """With equal importances the k-th unit costs harm · k: a quarter of the harm is worth four units to one."""
    order = removal_order([measured("hard", 0.4), measured("easy", 0.1)])
    assert len(order) == 36, "a tenth of each group stays"
    assert (order[:5].count(0), order[:5].count(1)) == (1, 4)
    assert (order[:15].count(0), order[:15].count(1)) == (3, 12)


def test_the_order_follows_what_is_saved() -> None:
    order = removal_order([measured("little", 0.1, saved=100), measured("much", 0.1, saved=400)])
    assert (order[:15].count(0), order[:15].count(1)) == (3, 12)


def test_the_order_follows_the_importance_of_channels() -> None:
    uneven = [0.1] * 10 + [1.9] * 10
    order = removal_order([measured("even", 0.1), measured("uneven", 0.1, importance=uneven)])
    assert order[:10].count(1) == 9, "the k-th costs k here and k / 10 there"
    assert order[10:20].count(1) < 3


def test_the_report_counts_what_each_layer_lost() -> None:
    module = Plain(32, 32)
    found = halved(module, ROWS)
    for layer in found.report.layers:
        weight = after(found).get_submodule(layer.name).weight
        assert layer.mask_shape == tuple(module.get_submodule(layer.name).weight.shape)
        assert layer.ones == weight.numel() and layer.zeros + layer.ones == int(np.prod(layer.mask_shape))
        assert layer.neurons_kept == len(weight) and layer.neurons_pruned == layer.mask_shape[0] - len(weight)
        assert layer.kind == "Linear"
    assert found.report.recipe == "prune50"


def test_layers_keep_channels_in_blocks_of_eight() -> None:
    pruned = after(halved(Plain(64, 48), ROWS, share=0.37))
    assert (pruned.first.out_features % 8, pruned.second.out_features % 8) == (0, 0)  # type: ignore[operator]


def test_the_users_module_is_never_touched() -> None:
    module = Mixed().train()
    module.stem.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = prune(module, contract_for(IMAGES), Structured(share=0.5), progress=False)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training and not module.stem.weight.requires_grad
    assert not any(layer._forward_hooks for layer in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not after(found).training and not after(found).stem.weight.requires_grad  # type: ignore[union-attr]


def test_a_loaded_model_is_copied_too() -> None:
    module = Plain().eval()
    loaded = LoadedModel("module", module)
    halved_model = prune(loaded, contract_for(ROWS), Structured(share=0.5), progress=False)
    assert module.first.out_features == 16 > after(halved_model).first.out_features  # type: ignore[operator]


def test_the_same_call_gives_the_same_bits() -> None:
    module, training = Plain(), Training(epochs=2)
    task = {"task": {"kind": "classification"}}
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    data = {"x": rows, "label": (rows[:, 0] > 0).astype(np.int64)}
    found = [
        prune(module, contract_for(ROWS, **task), Structured(share=0.5, training=training), train=data, progress=False)
        for _ in range(2)
    ]
    first, second = ([value.numpy().tobytes() for value in after(one).state_dict().values()] for one in found)
    assert first == second
    assert len(found[0].report.epochs) == 2 and found[0].report.samples == 40


@pytest.mark.parametrize(
    ("make", "shape", "why"),
    [
        (Classes, ROWS, "cannot be traced for removing channels .* prune unstructured"),
        (lambda: nn.Linear(8, 3), ROWS, "has no channels that can be removed"),
        (lambda: nn.Sequential(nn.Linear(8, 3), nn.ReLU()), ROWS, "has no channels that can be removed"),
    ],
)
def test_what_cannot_be_pruned_at_all_is_refused(make: Any, shape: list[Any], why: str) -> None:
    with pytest.raises(CompressError, match=why):
        halved(make(), shape)


def test_a_graph_is_refused_with_what_to_do() -> None:
    traced = torch.jit.trace(Plain().eval(), torch.zeros(2, 8))
    with pytest.raises(CompressError, match="is TorchScript, whose layers can be neither trained nor removed"):
        prune(LoadedModel("torchscript", traced), contract_for(ROWS), Structured(share=0.5), progress=False)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(CompressError, match="Structured: share: input should be"):
        Structured(share=share)


def test_without_training_data_it_is_not_fine_tuned_and_says_so() -> None:
    rules = {finding.rule: finding for finding in halved(Plain(), ROWS).findings}
    assert rules["not-fine-tuned"].why == "there is no training data"


def test_data_without_targets_and_tasks_without_a_loss_are_said() -> None:
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    found = halved(Plain(), ROWS, train={"x": rows})
    assert "has no targets" in next(f.why for f in found.findings if f.rule == "not-fine-tuned")
    found = halved(Plain(), ROWS, train={"x": rows, "target": rows})
    assert "has no loss of its own" in next(f.why for f in found.findings if f.rule == "not-fine-tuned")


def test_batch_normalisation_is_measured_anew_on_training_data() -> None:
    contract = contract_for(IMAGES)
    images = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32) + 2
    data = as_dataset({"x": images}, contract)
    found = halved(Mixed(), IMAGES, train=data)
    pruned = after(found)
    seen: list[Any] = []
    pruned.norm.register_forward_hook(lambda layer, given, out: seen.append(given[0]))  # type: ignore[union-attr,operator]
    pruned(torch.from_numpy(images))
    torch.testing.assert_close(pruned.norm.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-3, atol=1e-4)  # type: ignore[union-attr]
    assert pruned.norm.momentum == 0.1  # type: ignore[union-attr]
    assert any("measured anew" in note for note in found.report.notes)


def renewed(module: nn.Module, data: Any) -> tuple[bool, list[bytes]]:
    done = renew_statistics(module, data, ("x",), seed=3)
    return done, [value.numpy().tobytes() for value in module.state_dict().values()]


def test_a_shuffled_loader_gives_the_same_statistics_and_the_callers_randomness_stays() -> None:
    rows = torch.from_numpy(labelled(2600)["x"])
    own = torch.Generator().manual_seed(1)
    for generator in (None, own):
        loader = Loader(DataLoader(rows, batch_size=64, shuffle=True, generator=generator), contract_for(ROWS))
        state, numbers = torch.get_rng_state(), np.random.get_state()[1]
        first = renewed(nn.Sequential(nn.BatchNorm1d(8)), loader)
        assert torch.equal(torch.get_rng_state(), state) and np.array_equal(np.random.get_state()[1], numbers)
        torch.rand(3)
        assert renewed(nn.Sequential(nn.BatchNorm1d(8)), loader) == first
        assert first[0]


def test_batches_of_one_sample_have_no_statistics() -> None:
    rows = torch.from_numpy(labelled(5)["x"])
    fresh = [value.numpy().tobytes() for value in nn.Sequential(nn.BatchNorm1d(8)).state_dict().values()]
    alone = Loader(DataLoader(rows, batch_size=1), contract_for(ROWS))
    assert renewed(nn.Sequential(nn.BatchNorm1d(8)), alone) == (False, fresh)
    mixed = Loader(DataLoader(rows, batch_size=4), contract_for(ROWS))
    module = nn.Sequential(nn.BatchNorm1d(8))
    assert renewed(module, mixed)[0]
    torch.testing.assert_close(module[0].running_mean, rows[:4].mean(0))


class Picky(nn.Module):
    """Runs at no width between 9 and 23, and at none below `least`."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least = least
        self.first, self.head = nn.Linear(8, 32), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = self.first.out_features
        if 9 <= width <= 23 or width < self.least:
            raise RuntimeError(f"no kernel for {width} columns")
        return self.head(torch.relu(self.first(x)))


def test_a_width_at_which_forward_fails_is_not_taken() -> None:
    assert after(halved(Picky(4), ROWS)).first.out_features == 8  # type: ignore[union-attr]
    found = halved(Picky(20), ROWS)
    assert after(found).first.out_features == 24  # type: ignore[union-attr]
    assert "pruned-less" in {finding.rule for finding in found.findings}


def test_what_fails_at_every_width_is_a_compress_error() -> None:
    module, contract = Plain().eval(), contract_for(ROWS)
    cutter = Cutter.of(module, contract, [{"x": np.zeros((2, 8), np.float32)}], 2)
    groups, _ = cutter.groups()

    class Refusing(Cutter):
        def cut(self, plan: Any) -> nn.Module:
            raise RuntimeError("no kernel")

    refusing = Refusing(cutter.module, cutter.contract, cutter.feeds, cutter.shapes, cutter.norm)
    measured = [Sensitivity(groups[0], 0.25, 100, 0.1, None)]
    with pytest.raises(CompressError, match=r"does not run with fewer channels .*no kernel"):
        _least_that_suffices(refusing, measured, cutter.feeds[0], 1.0)


def test_a_contract_alone_names_the_model(project: Any) -> None:
    stated: Contract = project()
    found = prune(stated, None, Structured(share=0.4), progress=False)
    assert after(found).body.out_features < 8  # type: ignore[operator]


CLASSES = {"task": {"kind": "classification"}}


def labelled(count: int = 40) -> dict[str, Any]:
    rows = np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32)
    return {"x": rows, "label": (rows[:, 0] > 0).astype(np.int64)}


def test_a_data_loader_fine_tunes_and_renews() -> None:
    data = labelled()
    pairs = TensorDataset(torch.from_numpy(data["x"]), torch.from_numpy(data["label"]))
    module = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    method = Structured(share=0.5, training=Training(epochs=2))
    loader = DataLoader(pairs, batch_size=20)
    found = prune(module, contract_for(ROWS, **CLASSES), method, train=loader, validation=data, progress=False)
    assert len(found.report.epochs) == 2 and found.report.samples is None
    assert after(found)[1].num_batches_tracked > 0  # type: ignore[index]


def test_a_training_step_that_fails_is_blamed_by_its_own_line() -> None:
    def step(model: nn.Module, inputs: dict[str, Any], targets: Any) -> Any:
        raise KeyError("missing")

    with pytest.raises(CompressError, match=r"train_step \(step\): raises KeyError at test_prune_structured.py:\d+"):
        prune(
            Plain(),
            contract_for(ROWS),
            Structured(share=0.5),
            train={"x": labelled()["x"], "target": labelled()["x"]},
            train_step=step,
            progress=False,
        )


def test_an_interrupted_fine_tuning_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, method = Plain(), Structured(share=0.5, training=Training(epochs=3))
    found = [
        prune(module, contract_for(ROWS, **CLASSES), method, train=labelled(), checkpoint=tmp_path / "c.pt")
        for _ in range(2)
    ]
    assert torch.equal(after(found[0]).head.weight, after(found[1]).head.weight)  # type: ignore[union-attr,arg-type]
    shown = capsys.readouterr()
    assert [line.split("] ")[0] for line in shown.err.splitlines()] == [f"fine-tuning [{n}/3" for n in (1, 2, 3)]
    assert shown.out == ""
