"""Data and packages of the models, built once and kept in .cache/serve."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from .models import FLOAT32, INT8, IRIS, MODELS, ROOT, UINT8, Model
from .process import Failed, last_words
from .samples import CONTRACTS, flowers, nets, pixels

_BUILD_S = 1500.0
_TRIES = 3
"""A build goes on where the last one's budget ended, which is early on a machine that is not quiet."""
_MOST = 64
"""Samples in a batch of the exported graph."""


def prepare(model: Model, *, rebuild: bool) -> None:
    """Data and package, unless those in the cache were made by the contract and the code as they are now.

    Raises Failed with the build's last words."""
    mark, key = model.folder / "made.json", _key(model)
    # A text, because a mark that was cut off is no JSON.
    if not rebuild and mark.exists() and mark.read_text() == json.dumps(key):
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
    for _ in range(_TRIES):
        report = shipworthy.build(CONTRACTS / f"{model.name}.toml", work=model.folder / "work", progress=False)
        if report.best is not None and (model.of_numbers or report.record.chosen == f"static+{INT8}"):
            report.best.save(model.package)
            return
    raise SystemExit(f"the build has not chosen what is to be served: {report.record.why}")


def _export(model: Model) -> None:
    """By the torch.export-based exporter, with a free batch size and the weights inside."""
    import torch
    from safetensors.torch import load_file

    module = getattr(nets(), model.factory)()
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


def _key(model: Model) -> dict[str, str]:
    files = (CONTRACTS / f"{model.name}.toml", CONTRACTS / "serving_nets.py")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _grow_iris(model: Model) -> None:
    """A hundred records train, fifty validate: full batches of AdamW, a few seconds."""
    import torch
    from safetensors.torch import save_file

    rows, kinds = flowers()
    module = nets().iris().train()
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


_DATA: dict[str, Callable[[Model], None]] = {IRIS.name: _grow_iris, FLOAT32.name: _resnet50, UINT8.name: _resnet50}

if __name__ == "__main__":
    build(next(model for model in MODELS if model.name == sys.argv[1]))
