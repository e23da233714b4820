"""Ask one rule of one module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from shipworthy.contract import Array, Contract
from shipworthy.data import probes
from shipworthy.evidence import Finding
from shipworthy.model import LoadedModel, from_module
from shipworthy.preflight.context import Context
from shipworthy.preflight.rules import RULES

VECTOR = {"x": {"dtype": "float32", "shape": ["batch", 4]}}


def contract_of(inputs: dict[str, Any] | None = None, **more: Any) -> Contract:
    return Contract(**{"name": "m", "inputs": inputs or VECTOR, **more})


def context_of(model: LoadedModel | nn.Module, inputs: dict[str, Any] | None = None) -> Context:
    given = contract_of(inputs)
    loaded = from_module(model) if isinstance(model, nn.Module) else model
    return Context(loaded, given, probes(given, None))


@pytest.fixture
def ask() -> Callable[..., list[Finding]]:
    """ask(rule, module, inputs=None): what that one rule finds of a copy of the module in evaluation mode."""

    def asked(rule: str, model: LoadedModel | nn.Module, inputs: dict[str, Any] | None = None) -> list[Finding]:
        find = next(row.find for row in RULES if row.name == rule)
        return list(find(context_of(model, inputs)))

    return asked


@pytest.fixture
def row() -> Array:
    return np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
