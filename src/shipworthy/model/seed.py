"""Make a run repeatable, as far as that goes, and say how far."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_NUMPY_SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What was seeded and set, and what may still differ between two runs."""

    seed: int
    done: tuple[str, ...]
    remaining: tuple[str, ...]

    def worker_init_fn(self, worker: int) -> None:
        """For `DataLoader(worker_init_fn=report.worker_init_fn)`: seeds Python and NumPy in each worker.

        torch gives every worker a seed of its own; Python's and NumPy's states are copies of the parent's."""
        random.seed(self.seed + worker + 1)
        np.random.seed((self.seed + worker + 1) % _NUMPY_SEEDS)

    def generator(self) -> torch.Generator:
        """For `DataLoader(generator=report.generator())`: an order that depends on the seed alone."""
        import torch

        return torch.Generator().manual_seed(self.seed)

    def __str__(self) -> str:
        return "\n".join([*(f"set: {line}" for line in self.done), *(f"remains: {line}" for line in self.remaining)])


def set_seed(seed: int, deterministic: bool = True) -> SeedReport:
    """Seed Python, NumPy, torch and CUDA; `deterministic` also chooses deterministic algorithms where there are any.

    Without torch, the rest is seeded and the report says so. Raises ValueError for a negative seed."""
    if seed < 0:
        raise ValueError(f"seed is {seed}; give a number of 0 or above")
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)
    done = [f"random.seed({seed})", f"numpy.random.seed({seed % _NUMPY_SEEDS})"]
    remaining = _hash_seed()
    try:
        import torch
    except ModuleNotFoundError:
        return SeedReport(seed, tuple(done), (*remaining, "torch is not installed, so nothing of it was seeded"))
    torch.manual_seed(seed)
    done.append(f"torch.manual_seed({seed}), the CPU and every accelerator")
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
        done.append(f"torch.cuda.manual_seed_all({seed}), {torch.cuda.device_count()} devices")
    if deterministic:
        remaining += _deterministic(done)
    else:
        remaining.append("algorithms were left as they are: cuDNN may choose another one in each run")
    return SeedReport(seed, tuple(done), (*remaining, *_always()))


def _deterministic(done: list[str]) -> list[str]:
    import torch

    remaining = []
    if os.environ.setdefault(_CUBLAS, ":4096:8") not in (":4096:8", ":16:8"):
        remaining.append(f"{_CUBLAS} is {os.environ[_CUBLAS]!r}, which lets cuBLAS vary; set it to :4096:8")
    elif torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        remaining.append(f"CUDA was in use before {_CUBLAS} was set; call set_seed first")
    done.append(f"{_CUBLAS}={os.environ[_CUBLAS]}")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    done += [
        "torch.backends.cudnn.deterministic = True",
        "torch.backends.cudnn.benchmark = False",
        "torch.use_deterministic_algorithms(True, warn_only=True)",
    ]
    remaining.append(
        "operations without a deterministic form only warn (scatter and index_add on CUDA use atomic adds)"
    )
    return remaining


def _hash_seed() -> list[str]:
    value = os.environ.get("PYTHONHASHSEED")
    if value is not None and value.isdigit():
        return []
    return ["the order of Python sets of strings: set PYTHONHASHSEED=0 before Python starts"]


def _always() -> list[str]:
    return [
        "DataLoader workers: pass worker_init_fn=report.worker_init_fn and generator=report.generator()",
        "sums whose order depends on the number of threads: fix torch.set_num_threads and OMP_NUM_THREADS",
        "another machine, another version of torch, or another library for matrix products",
    ]
