"""Engines behind one protocol: open a graph, run it on arrays, and see what really executes."""

from .describe import Description, describe
from .engines import ENGINES, engine_version, open_runner
from .host import Host, compiler_isa, this_host, unmet
from .protocol import Artifact, Engine, Kernel, OperatingPoint, Runner

__all__ = [
    "ENGINES",
    "Artifact",
    "Description",
    "Engine",
    "Host",
    "Kernel",
    "OperatingPoint",
    "Runner",
    "compiler_isa",
    "describe",
    "engine_version",
    "open_runner",
    "this_host",
    "unmet",
]
