"""A package as MLflow's `python_function`: `mlflow.pyfunc.load_model("models:/digits@champion").predict({...})`.

MLflow imports this module by the name that stands in the MLmodel file of every package that was ever pushed, and calls
`_load_pyfunc`: neither name can change. No pickle is involved, and the package is audited as anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..contract import Array
from ..errors import InputError, Problem
from .loading import load
from .predictor import Predictor

__all__ = ["PythonFunction"]


class PythonFunction:
    """What MLflow calls to predict."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: object, params: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """Outputs by name for inputs [batch, ...] by name; a bare array where the model has one input.

        There are no `params`. Raises InputError where names, dtypes or shapes do not fit."""
        if params:
            raise InputError([Problem(0, "params", f"the model has no parameters, got {', '.join(params)}")])
        if isinstance(model_input, Mapping):
            return self.predictor.run(model_input)
        names = list(self.predictor.contract.inputs)
        if isinstance(model_input, np.ndarray) and len(names) == 1:
            return self.predictor.run({names[0]: model_input})
        expected = f"arrays by name: {', '.join(names)}"
        raise InputError([Problem(0, "model_input", f"expected {expected}, got {type(model_input).__name__}")])

    def get_raw_model(self) -> Predictor:
        """The predictor itself, which also answers instances with labels; MLflow hands it out under this name."""
        return self.predictor


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PythonFunction:
    """Called by MLflow with the path of the `.ship` file.

    `model_config={"allow_code": True}` also loads variants that carry executable code. Raises what `load` raises."""
    return PythonFunction(load(path, allow_code=bool((model_config or {}).get("allow_code", False))))
