"""The models that are served: their data, and the packages that Shipworthy builds of them, kept in .cache/serve."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .process import Failed, last_words

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONTRACTS = HERE / "contracts"
CACHE = HERE.parent / ".cache" / "serve"
SAMPLES = 16
"""Different bodies that are sent in turn, each with its known answer."""
ONNX, INT8 = "onnxruntime-fp32", "openvino-int8"
"""What peers run: the graph that a user would export, and the one that Shipworthy's build has chosen."""
_BUILD_S = 1200.0
_MOST = 64
"""Samples in a batch of the exported graph."""

Tensor = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Model:
    """One input and one output."""

    name: str
    title: str
    input: str
    dtype: str
    shape: tuple[int, ...]
    """Of one sample."""
    output: str
    width: int
    """Numbers in one answer."""
    factory: str
    """In contracts/nets.py."""

    @property
    def of_numbers(self) -> bool:
        """Asked with a few numbers as JSON, not with pictures."""
        return len(self.shape) == 1

    @property
    def folder(self) -> Path:
        return CACHE / self.name

    @property
    def package(self) -> Path:
        return self.folder / "package"

    @property
    def weights(self) -> Path:
        """ResNet-50 has those of benchmarks/optimize."""
        return (
            self.folder if self.factory == "iris" else CACHE.parent / "optimize" / "resnet50"
        ) / "weights.safetensors"

    def graph(self, engine: str) -> Path:
        """A file: the exported model for `onnxruntime-fp32`, the package's own for `openvino-int8`.

        Raises Failed where there is none."""
        variants = self.package / "variants"
        places = {ONNX: self.folder / "model.onnx", INT8: variants / f"static+{INT8}" / "model.xml"}
        if not (found := places[engine]).exists():
            raise Failed(f"{self.name}: the build gave no {engine}; build.log beside {found.parent} says why")
        return found

    def samples(self) -> Tensor:
        """What is sent [SAMPLES, ...], the same in every run."""
        return _FEEDS[self.name](SAMPLES)

    def expected(self, engine: str) -> npt.NDArray[np.float32]:
        """Answers [SAMPLES, width] of a graph of the package, one sample at a time, in this process."""
        run = _opened(self.graph(engine), self.input)
        return np.concatenate([run(row[None]) for row in self.samples()])


def prepare(model: Model, *, rebuild: bool) -> None:
    """Data and package, unless those in the cache were made by the contract and the code as they are now.

    Raises Failed with the build's last words."""
    mark, key = model.folder / "made.json", _key(model)
    if not rebuild and mark.exists() and json.loads(mark.read_text()) == key:
        return
    if rebuild:
        shutil.rmtree(model.folder, ignore_errors=True)
    # Otherwise what an earlier build has measured of the same contract is taken up again.
    shutil.rmtree(model.package, ignore_errors=True)
    model.folder.mkdir(parents=True, exist_ok=True)
    log = model.folder / "build.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", __name__, model.name]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code = process.wait(_BUILD_S)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"the build of {model.name} took more than {_BUILD_S:g} s") from error
        finally:
            _end(process)
    if code != 0:
        raise Failed(f"the build of {model.name} failed: {last_words(log)}")
    mark.write_text(json.dumps(key))


def build(model: Model) -> None:
    """In the child: data, an export to ONNX for those that bring no build, then `shipworthy.build` of the contract."""
    import shipworthy

    _DATA[model.name](model)
    _export(model)
    report = shipworthy.build(CONTRACTS / f"{model.name}.toml", work=model.folder / "work", progress=False)
    if report.best is None:
        raise SystemExit(f"no candidate meets the contract: {report.record.why}")
    report.best.save(model.package)


def _export(model: Model) -> None:
    """By the torch.export-based exporter, with a free batch size and the weights inside."""
    import torch
    from safetensors.torch import load_file

    module = getattr(_nets(), model.factory)()
    module.load_state_dict(load_file(model.weights))
    torch.onnx.export(
        module.eval(),
        # A batch of one sample would be taken for a fixed size.
        (torch.from_numpy(model.samples()[:2]),),
        str(model.folder / "model.onnx"),
        input_names=[model.input],
        output_names=[model.output],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=_MOST)},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def flowers() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The 150 records of scikit-learn's iris set [n, 4], shuffled, and their kinds."""
    from sklearn.datasets import load_iris

    found = load_iris()
    order = np.random.default_rng(0).permutation(len(found.target))
    return found.data[order].astype(np.float32), found.target[order].astype(np.int64)


def pixels(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Pictures [count, 3, 224, 224] of 0..255, which after normalisation are those of benchmarks/optimize."""
    from ..optimize.samples import pictures

    nets = _nets()
    mean, deviation = (np.array(three, np.float32).reshape(1, 3, 1, 1) for three in (nets.MEAN, nets.DEVIATION))
    pictured = np.asarray(pictures(count, seed)["image"], np.float32)
    return (255 * (mean + deviation * pictured)).round().clip(0, 255).astype(np.uint8)


def _nets() -> Any:
    sys.path.insert(0, str(CONTRACTS))
    try:
        return importlib.import_module("nets")
    finally:
        sys.path.remove(str(CONTRACTS))


def _key(model: Model) -> dict[str, str]:
    files = (CONTRACTS / f"{model.name}.toml", CONTRACTS / "nets.py")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _end(process: subprocess.Popen[bytes]) -> None:
    import signal
    from contextlib import suppress

    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _grow_iris(model: Model) -> None:
    """A hundred records train, fifty validate: full batches of AdamW, a few seconds."""
    import torch
    from safetensors.torch import save_file

    rows, kinds = flowers()
    module = _nets().iris().train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.02, weight_decay=0.01)
    features, labels = torch.from_numpy(rows[:100]), torch.from_numpy(kinds[:100])
    for _ in range(300):
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(torch.log(module(features) + 1e-9), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    save_file(module.state_dict(), model.weights)
    np.savez(model.folder / "calibration.npz", features=rows[:100])
    np.savez(model.folder / "validation.npz", features=rows[100:], label=kinds[100:])


def _resnet50(model: Model) -> None:
    """The weights and the normalised pictures are those of benchmarks/optimize."""
    from ..optimize.prepare import prepare as prepare_optimize
    from ..optimize.subject import SUBJECTS

    prepare_optimize(next(subject for subject in SUBJECTS if subject.name == "resnet50"))
    if model.dtype == "uint8":
        np.savez(model.folder / "calibration.npz", image=pixels(96))


def _opened(graph: Path, name: str) -> Callable[[Tensor], npt.NDArray[np.float32]]:
    from .apps.engine import opened

    run: Callable[[Tensor], npt.NDArray[np.float32]]
    run = opened({"graph": str(graph), "input": name, "threads": 2, "streams": 1})
    return run


def _picture(rows: int) -> npt.NDArray[np.float32]:
    from ..optimize.samples import pictures

    return np.asarray(pictures(rows, seed=1)["image"], np.float32)


IRIS = Model(
    name="iris",
    title="iris, an MLP of 403 parameters",
    input="features",
    dtype="float32",
    shape=(4,),
    output="probabilities",
    width=3,
    factory="iris",
)
FLOAT32 = Model(
    name="resnet50-float32",
    title="ResNet-50, float32 pictures of 600 KB",
    input="image",
    dtype="float32",
    shape=(3, 224, 224),
    output="logits",
    width=1000,
    factory="resnet50",
)
UINT8 = replace(
    FLOAT32,
    name="resnet50-uint8",
    title="ResNet-50, uint8 pictures of 150 KB",
    dtype="uint8",
    factory="resnet50_pixels",
)
MODELS = (IRIS, FLOAT32, UINT8)

_FEEDS: dict[str, Callable[[int], Tensor]] = {
    IRIS.name: lambda count: flowers()[0][:count],
    FLOAT32.name: _picture,
    UINT8.name: lambda count: pixels(count, seed=1),
}
_DATA: dict[str, Callable[[Model], Any]] = {IRIS.name: _grow_iris, FLOAT32.name: _resnet50, UINT8.name: _resnet50}

if __name__ == "__main__":
    build(next(model for model in MODELS if model.name == sys.argv[1]))
