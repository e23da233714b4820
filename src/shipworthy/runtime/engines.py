"""The table of engines. Adding one is a file and a row."""

from __future__ import annotations

import difflib
from importlib import metadata, util

from ..errors import EngineError, MissingExtra, ShipworthyError
from .engine_aoti import AotiEngine
from .engine_onnxruntime import OnnxReferenceEngine, OnnxRuntimeEngine
from .engine_openvino import OpenVinoEngine
from .engine_torch import TorchEngine
from .engine_torchscript import TorchScriptEngine
from .guarded import first_line
from .protocol import Artifact, Engine, OperatingPoint, Runner

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        TorchEngine(),
        TorchScriptEngine(),
        AotiEngine(),
        OnnxRuntimeEngine(),
        OpenVinoEngine(),
        OnnxReferenceEngine(),
    )
}


def engine_named(name: str) -> Engine:
    """A row of the table. Raises EngineError with the nearest names."""
    if name not in ENGINES:
        near = difflib.get_close_matches(name, ENGINES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise EngineError(name, "is no engine", f"{hint}the engines are {', '.join(ENGINES)}")
    return ENGINES[name]


def open_runner(artifact: Artifact, point: OperatingPoint | None = None) -> Runner:
    """Open a graph for running at an operating point (one stream on one thread where none is given).

    Raises MissingExtra where the engine is not installed, EngineError where it is broken or refuses the file."""
    engine = engine_named(artifact.engine)
    if not artifact.directory.is_dir() or not any(artifact.directory.iterdir()):
        raise EngineError(str(artifact.directory), "there is no artifact here", "export the model again")
    try:
        return engine.open(artifact, point or OperatingPoint())
    except ShipworthyError:
        raise
    except Exception as error:  # a broken installation raises anything when it is imported
        if isinstance(error, ModuleNotFoundError) and error.name == engine.module:
            raise MissingExtra(f"the engine {engine.name!r}", engine.module, engine.extra) from error
        raise EngineError(
            f"the engine {engine.name!r}",
            f"cannot be opened: {first_line(error)}",
            f"install it again: pip install --force-reinstall 'shipworthy[{engine.extra}]'",
        ) from error


def engine_version(engine: str) -> str | None:
    """The installed version, None where the engine is not installed. Nothing is imported for it."""
    module = engine_named(engine).module
    if util.find_spec(module) is None:
        return None
    if (version := _version(module)) is not None:
        return version
    distributions = metadata.packages_distributions().get(module, ())
    return next((version for name in distributions if (version := _version(name)) is not None), "unknown")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
