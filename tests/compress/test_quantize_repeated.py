"""The same seed in another process: the same graph, to the byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import hashlib, json, sys
from pathlib import Path
import torch
from quantize_subjects import IMAGES, WORDS, Attention, Conv, case
from shipworthy.compress import Static
from shipworthy.compress.quantization.graph import quantize_graph

folder, found = Path(sys.argv[1]), {}
for net, inputs, lengths in ((Conv, IMAGES, (6,)), (Attention, WORDS, (4, 9))):
    for engine in ("openvino", "onnxruntime"):
        torch.manual_seed(7)
        job = case(net(), inputs, folder / net.__name__ / engine, engine=engine, lengths=lengths).job
        quantize_graph(job, Static(), engine)
        for file in sorted(job.directory.iterdir()):
            found[f"{net.__name__} {engine} {file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
print(json.dumps(found))
"""


@pytest.mark.full
def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(tmp_path / str(number))],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": str(number)},
        )
        for number in (1, 2)
    ]
    first, second = (json.loads(run.communicate(timeout=240)[0].splitlines()[-1]) for run in runs)
    assert first == second
    assert {name.split()[0] for name in first} == {"Conv", "Attention"}
    assert len(first) >= 6, "a graph and its weights for OpenVINO, a graph for ONNX Runtime, of each net"
