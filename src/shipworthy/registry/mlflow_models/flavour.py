"""The folder that MLflow knows as a model: the `.ship` file, and an MLmodel file that says how to open it.

MLmodel is YAML, of which JSON is a part; its keys are those of MLflow's storage format, its flavours `python_function`
(opened by `predict.pyfunc`, by name and not by pickle) and our own."""

from __future__ import annotations

import json
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ... import __version__
from ...contract import Dim, TensorSpec
from ...package import FORMAT, Package
from ...runtime import ENGINES

MLMODEL = "MLmodel"
LOADER = "shipworthy.predict.pyfunc"


def write_model(folder: Path, package: Package, *, run_id: str) -> None:
    """Make `folder` with what MLflow needs to load and to show the package, which was opened from a `.ship` file."""
    folder.mkdir()
    file = f"{package.manifest.name}.ship"
    shutil.copyfile(package.path, folder / file)
    said = _mlmodel(package, file, run_id, folder.name)
    (folder / MLMODEL).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    (folder / "requirements.txt").write_text(_requirement(package) + "\n", encoding="utf-8")


def _mlmodel(package: Package, file: str, run_id: str, artifact_path: str) -> dict[str, Any]:
    signature = package.manifest.signature
    return {
        "artifact_path": artifact_path,
        "run_id": run_id,
        "model_uuid": uuid.uuid4().hex,
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "model_size_bytes": package.size,
        "flavors": {
            "python_function": {"loader_module": LOADER, "data": file, "config": {"allow_code": False}},
            "shipworthy": {"package": file, "digest": package.digest, "format": FORMAT, "version": __version__},
        },
        "signature": {"inputs": _schema(signature.inputs), "outputs": _schema(signature.outputs), "params": None},
    }


def _schema(tensors: dict[str, TensorSpec]) -> str:
    """A signature's half as MLflow keeps it: JSON in a string, -1 for a size that is dynamic."""
    return json.dumps(
        [{"name": name, "type": "tensor", "tensor-spec": _tensor(spec)} for name, spec in tensors.items()]
    )


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.dtype, "shape": [-1 if isinstance(size, Dim) else size for size in spec.shape]}


def _requirement(package: Package) -> str:
    """What `pip install` needs for the chosen variant."""
    engine = ENGINES.get(package.manifest.variants[0].requires.engine)
    extra = f"[{engine.extra}]" if engine is not None and engine.extra else ""
    return f"shipworthy{extra}>={__version__}"
