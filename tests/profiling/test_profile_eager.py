"""What a profile says of the model in PyTorch: operators, regions, modules, memory, the trace."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from shipworthy.contract import Contract
from shipworthy.errors import ContractError, ModelError, ShipworthyError
from shipworthy.model import load_model
from shipworthy.profiling import ProfileReport, profile
from shipworthy.profiling.report import ModuleRow, TorchProfile
from shipworthy.profiling.subject import resized

BATCH, STEPS = 4, 5
CONV = 2 * BATCH * 6 * 6 * 8 * 3 * 9
HEAD = 2 * BATCH * 8 * 16
LINEAR = 2 * BATCH * 16 * 16


@pytest.fixture
def eager(report: ProfileReport) -> TorchProfile:
    assert report.torch is not None
    return report.torch


@pytest.fixture
def modules(eager: TorchProfile) -> dict[str, ModuleRow]:
    return {row.path: row for row in eager.modules}


def quick(module: nn.Module, shape: list[str | int], **settings: object) -> TorchProfile:
    contract = {"name": "live", "inputs": {"x": {"dtype": "float32", "shape": shape}}, "target": {"threads": 1}}
    found = profile(module, contract, steps=2, engines=(), **settings).torch  # type: ignore[arg-type]
    assert found is not None
    return found


def test_what_was_run(eager: TorchProfile) -> None:
    assert (eager.device, eager.threads, eager.batch) == ("cpu", 1, BATCH)
    assert (eager.steps, eager.counted) == (STEPS, 3)
    assert eager.feeds == {"x": "float32 [4, 3, 6, 6]"}
    assert eager.run_us > 0 and eager.profiled_us > 0
    assert eager.cuda is None and all(row.cuda_us is None for row in eager.operators)


def test_operators_have_shapes_flops_and_their_own_time(eager: TorchProfile) -> None:
    conv = next(row for row in eager.operators if row.flops == CONV)
    assert conv.heavy and conv.calls == 1
    assert conv.shapes[:2] == ((4, 3, 6, 6), (8, 3, 3, 3))
    assert conv.name == "aten::mkldnn_convolution", "the one that does the work, not the one that has the formula"
    products = [row for row in eager.operators if row.name == "aten::addmm"]
    assert sum(row.calls for row in products) == 6
    assert sum(row.flops or 0 for row in products) == 2 * (HEAD + 2 * LINEAR)
    assert all(0 <= row.self_us <= row.total_us * 1.001 for row in eager.operators)
    own = [row.self_us for row in eager.operators]
    assert own == sorted(own, reverse=True)
    assert sum(own) <= eager.profiled_us


def test_memory_is_that_of_the_operator_that_allocates(eager: TorchProfile) -> None:
    rows = {row.name: row for row in eager.operators}
    assert rows["aten::mkldnn_convolution"].bytes == BATCH * 8 * 6 * 6 * 4
    assert rows["aten::empty"].bytes == 0
    # Of the convolution and the normalisation, both are there at once.
    assert eager.peak_bytes >= 2 * BATCH * 8 * 6 * 6 * 4


def test_user_regions_and_what_is_inside(eager: TorchProfile) -> None:
    regions = {row.name: row for row in eager.regions}
    assert set(regions) == {"my features", "my <pairs>"}
    features, pairs = regions["my features"], regions["my <pairs>"]
    assert (features.flops, pairs.flops) == (CONV, 2 * (HEAD + 2 * LINEAR))
    assert {"aten::mkldnn_convolution", "aten::mean"} <= {row.name for row in features.inside}
    assert next(row.calls for row in pairs.inside if row.name == "aten::tanh") == 2
    assert features.us + pairs.us <= eager.profiled_us


def test_parameters_and_bytes_count_shared_weights_once(eager: TorchProfile, modules: dict[str, ModuleRow]) -> None:
    module = load_shared()
    assert eager.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert sum(row.own_parameters for row in eager.modules) == eager.parameters
    assert sum(row.own_bytes for row in eager.modules) == eager.bytes
    assert modules["pair"].parameters == 16 * 16 + 2 * 16
    assert (modules["pair.a"].own_parameters, modules["pair.b"].own_parameters) == (16 * 16 + 16, 16)
    assert modules["pair.b"].parameters == 16 * 16 + 16
    assert [path for path, row in modules.items() if row.shared] == ["pair.a", "pair.b"]
    # Two running statistics of 8 and a count of 8 bytes besides 16 parameters.
    assert modules["norm"].bytes == 16 * 4 + 16 * 4 + 8


def load_shared() -> nn.Module:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
            self.b.weight = self.a.weight

    parts = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 16), Pair(), nn.Linear(4, 4)]
    return nn.ModuleList(parts)


def test_modules_have_times_calls_and_flops(eager: TorchProfile, modules: dict[str, ModuleRow]) -> None:
    assert list(modules) == ["", "conv", "norm", "head", "pair", "pair.a", "pair.b", "spare"]
    assert modules[""].kind == "Net"
    assert modules[""].flops == eager.flops == CONV + 2 * (HEAD + 2 * LINEAR)
    assert (modules["conv"].flops, modules["head"].flops, modules["pair"].flops) == (CONV, 2 * HEAD, 4 * LINEAR)
    assert [modules[path].calls for path in ("", "conv", "pair", "pair.a", "spare")] == [1, 1, 2, 2, 0]
    assert modules["spare"].us == 0
    inner = sum(modules[path].us for path in ("conv", "norm", "head", "pair"))
    assert modules[""].us == pytest.approx(modules[""].own_us + inner)
    assert modules["pair"].us >= modules["pair.a"].us + modules["pair.b"].us


def test_the_trace_is_a_chrome_trace_with_regions_and_modules(report: ProfileReport, trace: Path) -> None:
    assert report.trace == str(trace)
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    named = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert named.count("my features") == STEPS
    assert named.count("module: pair.a") == 2 * STEPS
    assert [path.name for path in trace.parent.iterdir()] == ["trace.json"]


def test_flops_of_a_recurrent_layer() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    found = quick(Recurrent(), ["batch", 5, 6], batch=4)
    assert found.flops == 2 * 4 * 5 * (4 * 8 * 6 + 4 * 8 * 8) + 2 * 4 * 8 * 2
    assert found.uncounted == ()


def test_what_no_formula_counts_is_said() -> None:
    class Vector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.mv(x, self.weight)[:, None]

    found = quick(Vector(), ["batch", 6])
    assert (found.flops, found.uncounted) == (0, ("aten::mv",))
    assert "no formula for the FLOPs of aten::mv" in shown(found)


def shown(found: TorchProfile) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(ProfileReport(name="net", created="now", host="a processor", torch=found).table())
    return console.export_text()


def test_the_fused_path_of_a_transformer_stays_and_its_flops_are_counted() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    found = quick(nn.Sequential(layer), ["batch", 4, 16], batch=2)
    assert "aten::_transformer_encoder_layer_fwd" in {row.name for row in found.operators}
    tokens = 2 * 4
    assert found.flops == 2 * tokens * (4 * 16 * 16 + 2 * 16 * 32) + 2 * (2 * 2 * 2 * 4 * 4 * 8)


def test_a_live_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    threads = torch.get_num_threads()
    found = quick(module, ["batch", 3])
    assert module.training and module[1].training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())
    assert torch.get_num_threads() == threads
    assert found.batch == 8
    assert module(torch.zeros(1, 3)).grad_fn is not None


def test_a_script_module_is_one_module() -> None:
    found = quick(torch.jit.script(nn.Sequential(nn.Linear(3, 5), nn.ReLU()).eval()), ["batch", 3], batch=2)
    assert [(row.path, row.parameters, row.own_parameters) for row in found.modules] == [("", 20, 20)]
    assert found.flops == 2 * 2 * 3 * 5


def test_real_samples_are_fed_and_repeated_where_too_few() -> None:
    seen: list[torch.Tensor] = []

    class Watcher(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.clone())
            return x * 2

    data = {"x": np.arange(6, dtype="float32").reshape(3, 2)}
    quick(Watcher(), ["batch", 2], batch=4, data=data)
    assert seen[-1].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
    assert resized(np.arange(3), 2).tolist() == [0, 1]


def test_a_model_that_fails_is_blamed_by_its_line(small: Contract, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text((small.root / "net.py").read_text(encoding="utf-8"), encoding="utf-8")
    broken = small.model_copy(update={"model": "net:Broken", "root": tmp_path})
    with pytest.raises(ModelError, match=r"net:Broken: raises RuntimeError at net\.py:\d+"):
        profile(broken, engines=())


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"batch": 65}, ContractError, r"65 is outside of batch:1\.\.64"),
        ({"batch": 0}, ContractError, "0 is outside"),
        ({"steps": 0}, ShipworthyError, "0 runs show nothing"),
        ({"device": "tpu"}, ShipworthyError, "'tpu' is none"),
        ({"trace": "no/such/folder/t.json"}, ShipworthyError, "there is no folder no/such/folder"),
        ({"contract": "again.toml"}, ModelError, "expected an nn.Module before the contract"),
    ],
)
def test_wrong_settings(small: Contract, settings: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        profile(small, **{"engines": (), **settings})  # type: ignore[arg-type]


def test_a_live_module_needs_a_contract() -> None:
    with pytest.raises(ContractError, match="a live module needs a contract"):
        profile(nn.Linear(2, 2))


def test_cuda_where_there_is_none(small: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ShipworthyError, match="PyTorch sees no CUDA device here"):
        profile(small, device="cuda", engines=())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_times_and_memory(small: Contract) -> None:
    report = profile(small, device="cuda", batch=BATCH, steps=STEPS, engines=())
    found = report.torch
    assert found is not None and found.cuda is not None
    assert found.device.startswith("cuda (")
    assert found.cuda.peak_allocated >= found.cuda.allocated >= found.bytes
    assert found.cuda.peak_reserved >= found.cuda.reserved >= found.cuda.allocated
    assert sum(row.cuda_us or 0 for row in found.operators) > 0
    root = found.modules[0]
    assert root.cuda_us is not None and root.cuda_us > 0
    assert any(row.bytes > 0 for row in found.operators)
    text = report.html()
    assert "CUDA" in text and found.cuda.device in text


def test_a_loaded_model_stays_on_the_processor(small: Contract) -> None:
    loaded = load_model(small)
    found = profile(loaded, small, batch=2, steps=1, engines=()).torch
    assert found is not None and found.counted == 1
    assert loaded.module is not None and all(p.device.type == "cpu" for p in loaded.module.parameters())
