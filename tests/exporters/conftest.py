"""How the tests of this room export and ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_subject import Make, Subject
from torch import nn

from shipworthy.contract import Array, Contract, Dim
from shipworthy.model import LoadedModel, infer_outputs


@pytest.fixture
def subject(tmp_path: Path) -> Make:
    """subject(module, {"x": ["batch", 4]}) with the sizes of other dynamic dimensions as keywords."""

    def make(
        module: nn.Module,
        shapes: Mapping[str, Sequence[str | int]],
        *,
        positive: bool = False,
        dtypes: Mapping[str, str] | None = None,
        outputs: Mapping[str, Any] | None = None,
        **sizes: Sequence[int],
    ) -> Subject:
        random = np.random.default_rng(5)

        def feeds(batch: int, choice: int) -> dict[str, Array]:
            found = {}
            for name, shape in shapes.items():
                dims = [d if isinstance(d, int) else Dim.parse(d).name for d in shape]
                numbers = [d if isinstance(d, int) else batch if d == "batch" else sizes[d][choice] for d in dims]
                values = random.standard_normal(numbers)
                dtype = (dtypes or {}).get(name, "float32")
                found[name] = (np.abs(values) if positive else values).astype(dtype)
            return found

        inputs = {
            name: {"dtype": (dtypes or {}).get(name, "float32"), "shape": list(shape)} for name, shape in shapes.items()
        }
        contract = Contract.model_validate({"name": "subject", "inputs": inputs, "outputs": outputs or {}})
        model = LoadedModel("module", module.eval())
        choices = max((len(found) for found in sizes.values()), default=1)
        if not outputs:
            contract = infer_outputs(model, contract, feeds(2, 0), feeds(3, choices - 1))
        probes = [feeds(2, choices // 2), *(feeds(b, c) for b in (1, 3) for c in range(choices))]
        return Subject(model, contract, tuple(probes), tmp_path)

    torch.manual_seed(11)
    return make
