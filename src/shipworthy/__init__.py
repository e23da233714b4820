"""Shipworthy takes a trained PyTorch model to monitored production, and lets it sail only on evidence.

Every public name is loaded at its first use, so that `import shipworthy` brings neither torch nor an engine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compose import serve
    from .compress.distillation import distill
    from .compress.pruning.verb import prune
    from .compress.quantization.verb import quantize
    from .contract import Contract, read_contract
    from .errors import ShipworthyError
    from .exporters import export
    from .model import load_model, set_seed
    from .monitor import Monitor
    from .package import read_package, verify
    from .predict import load
    from .preflight import check, explain
    from .profiling import profile
    from .registry import Registry
    from .select.build import build
    from .server import create_app

__version__ = "0.1.0"

_ROOM_OF = {
    "Contract": "contract",
    "Monitor": "monitor",
    "Registry": "registry",
    "ShipworthyError": "errors",
    "build": "select",
    "check": "preflight",
    "create_app": "server",
    "distill": "compress",
    "explain": "preflight",
    "export": "exporters",
    "load": "predict",
    "load_model": "model",
    "profile": "profiling",
    "prune": "compress",
    "quantize": "compress",
    "read_contract": "contract",
    "read_package": "package",
    "serve": "compose",
    "set_seed": "model",
    "verify": "package",
}

__all__ = [
    "Contract",
    "Monitor",
    "Registry",
    "ShipworthyError",
    "build",
    "check",
    "create_app",
    "distill",
    "explain",
    "export",
    "load",
    "load_model",
    "profile",
    "prune",
    "quantize",
    "read_contract",
    "read_package",
    "serve",
    "set_seed",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_ROOM_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
