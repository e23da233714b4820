"""set_seed makes runs repeat, and says what it did and what it could not do."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from shipworthy.model import SeedReport, set_seed


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    python, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
    random.setstate(python)
    np.random.set_state(numpy_state)
    torch.set_rng_state(torch_state)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    if workspace is not None:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(1))]


def test_all_three_streams_repeat() -> None:
    set_seed(7)
    first = draws()
    set_seed(7)
    assert draws() == first
    set_seed(8)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_the_report_says_what_is_set_and_it_is() -> None:
    report = set_seed(0)
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    text = str(report)
    for word in ("random.seed(0)", "numpy.random.seed(0)", "torch.manual_seed(0)", "benchmark = False", ":4096:8"):
        assert f"set: {word}" in text or word in text
    assert any("DataLoader workers" in line for line in report.remaining)
    assert any("atomic" in line for line in report.remaining)
    assert any("threads" in line for line in report.remaining)


def test_without_deterministic_the_algorithms_are_left_alone() -> None:
    torch.use_deterministic_algorithms(False)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    report = set_seed(1, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert any("left as they are" in line for line in report.remaining)


def test_a_workspace_that_varies_is_reported_not_overwritten() -> None:
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":0:0"
    report = set_seed(1)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":0:0"
    assert any("':0:0', which lets cuBLAS vary" in line for line in report.remaining)


def test_the_hash_seed_is_named_only_while_it_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    assert any("PYTHONHASHSEED" in line for line in set_seed(0).remaining)
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert not any("PYTHONHASHSEED" in line for line in set_seed(0).remaining)


def test_a_large_seed_fits_numpy_and_a_negative_one_is_refused() -> None:
    assert f"numpy.random.seed({5})" in set_seed(2**32 + 5).done
    with pytest.raises(ValueError, match="seed is -1"):
        set_seed(-1)


class Noise(torch.utils.data.Dataset[float]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> float:
        return float(np.random.rand())


def epoch(report: SeedReport) -> list[float]:
    loader = DataLoader(
        Noise(), num_workers=2, worker_init_fn=report.worker_init_fn, generator=report.generator(), shuffle=True
    )
    return [float(value) for value in loader]


def test_loader_workers_repeat_and_differ_from_each_other() -> None:
    first = epoch(set_seed(3))
    assert epoch(set_seed(3)) == first
    assert len(set(first)) == len(first)


def test_it_works_without_torch_and_says_so() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from shipworthy.model import set_seed\n"
        "print(set_seed(1).remaining[-1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch is not installed" in done.stdout
