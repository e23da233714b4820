"""The drop of the metric, where the last batch is smaller than the model takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from shipworthy.compress.drop import drop_on
from shipworthy.contract import Contract
from shipworthy.data import Chunk, Dataset, probes
from shipworthy.exporters import export
from shipworthy.model import from_module, infer_outputs


def test_a_last_batch_below_the_least_is_filled_and_counts_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    contract = Contract(
        name="net",
        inputs={"x": {"dtype": "float32", "shape": ["batch:4..8", 6]}},
        task={"kind": "classification", "labels": ["a", "b", "c"]},
    )
    model = from_module(nn.Linear(6, 3).eval(), contract)
    values = np.random.default_rng(0).standard_normal((17, 6)).astype(np.float32)
    data = Dataset((Chunk({"x": values}, np.arange(17) % 3),))
    tried = probes(contract, None)
    contract = infer_outputs(model, contract, *tried)
    artifact = export(model, contract, "openvino", "fp32", tmp_path, tried).artifact
    drop = drop_on(model, contract, data)
    assert drop is not None and drop(artifact) == 0.0
