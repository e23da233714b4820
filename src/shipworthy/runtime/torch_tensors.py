"""Arrays to tensors and back, and the thread count, for the engines that live in torch."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import Array
from ..errors import MissingExtra
from .protocol import OperatingPoint

if TYPE_CHECKING:
    import torch


def need_torch(engine: str) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the engine {engine!r}", "torch", "build") from error
    return torch


class ThreadLimit:
    """Sets torch's thread count to threads // streams.

    The count is global to the process: the runner opened last decides it. OpenMP keeps a second one per thread,
    which a new thread takes from the environment, so each thread that runs has to set it once."""

    def __init__(self, point: OperatingPoint) -> None:
        self._threads = max(1, point.threads // point.streams)
        self._done = threading.local()
        self.apply()

    def apply(self) -> None:
        if getattr(self._done, "set", False):
            return
        import torch

        torch.set_num_threads(self._threads)
        self._done.set = True


def to_tensors(arrays: Iterable[Array]) -> list[torch.Tensor]:
    """Copies, because a graph may write into its inputs."""
    import torch

    return [torch.from_numpy(array.copy()) for array in arrays]


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """What torch calls a dtype of numpy's."""
    import torch

    return torch.from_numpy(np.empty(0, dtype)).dtype


def to_arrays(tensors: Iterable[torch.Tensor]) -> list[Array]:
    """numpy has no bfloat16: such a tensor becomes float32."""
    import torch

    return [
        (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().contiguous().numpy()
        for tensor in tensors
    ]


def flat_tensors(result: Any) -> list[torch.Tensor]:
    """The tensors of what a graph of this project returns: one tensor, or a tuple or list of them."""
    return list(result) if isinstance(result, (tuple, list)) else [result]
