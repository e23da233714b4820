"""Read a state_dict from a file, without executing anything that the file holds."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile, is_zipfile

from ..errors import ModelError, UnsafePickle, WeightsError
from .kinds import file_kind
from .pickles import read_pickle_imports

if TYPE_CHECKING:
    from torch import Tensor

_NESTED = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Where training frameworks put the state_dict in a checkpoint: Lightning the first, the others by custom."""


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, of torch.save(state_dict), or of a checkpoint that holds one, on the CPU.

    Raises ModelError where the file is missing or of another kind, UnsafePickle where it holds more than tensors,
    WeightsError where it is readable but has no state_dict."""
    path = Path(path)
    kind = file_kind(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind != "tensors":
        raise WeightsError(
            str(path),
            f"is a whole model ({kind}), not a state_dict",
            f'name it as the model itself: model = "{path.name}", and leave weights out',
        )
    return _state_dict(path, _read_tensors(path))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path, device="cpu"))
    except SafetensorError as exc:
        raise ModelError(str(path), f"is a damaged .safetensors file ({exc})", "copy or save it again") from exc


def _read_tensors(path: Path) -> object:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        foreign = _foreign_imports(path)
        raise UnsafePickle(
            str(path),
            f"holds more than tensors: {', '.join(foreign[:5]) or 'objects that torch does not allow'}; "
            "reading them could execute code",
            "where it was written, save only the tensors: torch.save(checkpoint['state_dict'], 'weights.pt') "
            "(or torch.save(model.state_dict(), 'weights.pt'))",
        ) from exc
    except Exception as exc:  # torch's reader raises whatever a damaged file leads it to
        first = str(exc).strip().split("\n")[0] or type(exc).__name__
        raise ModelError(str(path), f"cannot be read ({first})", "copy or save it again") from exc


def _foreign_imports(path: Path) -> tuple[str, ...]:
    if not is_zipfile(path):
        return read_pickle_imports(path.read_bytes()).foreign
    with ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        return read_pickle_imports(archive.read(name)).foreign


def _state_dict(path: Path, loaded: object) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping):
        raise WeightsError(
            str(path),
            f"holds a {type(loaded).__name__}, not a state_dict",
            "save the weights by name: torch.save(model.state_dict(), 'weights.pt')",
        )
    for name in _NESTED:
        inner = loaded.get(name)
        if isinstance(inner, Mapping) and _is_state_dict(inner):
            return dict(inner)
    if _is_state_dict(loaded):
        return dict(loaded)
    raise WeightsError(
        str(path),
        f"is a checkpoint without a state_dict; it has the keys {', '.join(map(str, list(loaded)[:8]))}",
        "save the weights alone: torch.save(model.state_dict(), 'weights.pt')",
    )


def _is_state_dict(mapping: Mapping[object, object]) -> bool:
    """At least one tensor, and nothing else but what modules save as their extra state."""
    from torch import Tensor

    tensors = [name for name, value in mapping.items() if isinstance(value, Tensor)]
    return bool(tensors) and all(
        isinstance(value, Tensor) or str(name).endswith("_extra_state") for name, value in mapping.items()
    )
