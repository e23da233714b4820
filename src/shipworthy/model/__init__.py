"""Load a model from what notebooks leave behind, run it as PyTorch does, and make runs repeatable."""

from .infer import infer_outputs
from .load import from_module, load_model
from .loaded import LoadedModel, Source
from .run import run_eager
from .seed import SeedReport, set_seed
from .weights import load_weights

__all__ = [
    "LoadedModel",
    "SeedReport",
    "Source",
    "from_module",
    "infer_outputs",
    "load_model",
    "load_weights",
    "run_eager",
    "set_seed",
]
