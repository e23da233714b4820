"""What this machine can do: engines, instruction sets, devices, extras, and what is missing for what."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from .runtime import ENGINES, Host, engine_version, this_host

# What a user cannot do without an extra; what each extra brings is in the distribution's own metadata.
_USES = {
    "build": "load, check, export and measure models, and write the report",
    "openvino": "run OpenVINO variants",
    "onnxruntime": "run ONNX variants",
    "images": "accept images",
    "text": "accept texts",
    "demo": "run the demo",
}
_REQUIREMENT = re.compile(r"""([\w.-]+).*extra\s*==\s*['"](\w+)['"]""")

# CPU flag as the kernel names it, and what it speeds up.
_INSTRUCTIONS = (
    ("avx2", "fp32"),
    ("avx512f", "fp32"),
    ("avx512_vnni", "int8"),
    ("avx_vnni", "int8"),
    ("amx_int8", "int8"),
    ("avx512_bf16", "bf16"),
    ("amx_bf16", "bf16"),
    ("asimd", "fp32"),
    ("asimddp", "int8"),
    ("i8mm", "int8"),
    ("bf16", "bf16"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing looked at: `ok`, or `missing` with what that costs and how to get it."""

    kind: Literal["engine", "instructions", "device", "extra", "tool"]
    name: str
    state: Literal["ok", "missing"]
    detail: str


@dataclass(frozen=True, slots=True)
class Examination:
    host: Host
    lines: tuple[Line, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "host": {**asdict(self.host), "isa": sorted(self.host.isa)},
            "lines": [asdict(line) for line in self.lines],
        }


def examine() -> Examination:
    """Look at this machine; nothing is changed, and torch is imported only to ask for its devices."""
    host = this_host()
    return Examination(host, (*_engines(), *_instructions(host), *_devices(), *_extras(), *_tools()))


def _engines() -> list[Line]:
    lines = []
    for name, engine in ENGINES.items():
        if not engine.packable:
            continue
        found = engine_version(name)
        detail = found if found is not None else f"pip install 'shipworthy[{engine.extra}]'"
        code = "; brings executable code: served only with --allow-code" if engine.executes_code else ""
        lines.append(Line("engine", name, "missing" if found is None else "ok", detail + code))
    return lines


def _instructions(host: Host) -> list[Line]:
    return [Line("instructions", flag, "ok", f"speeds up {what}") for flag, what in _INSTRUCTIONS if flag in host.isa]


def _devices() -> list[Line]:
    if _distribution("torch") is None:
        return [Line("device", "cuda", "missing", "torch is not installed, so devices cannot be asked for")]
    import torch

    if not torch.cuda.is_available():
        return [Line("device", "cuda", "missing", "torch sees no CUDA device; everything runs on the CPU")]
    return [
        Line("device", f"cuda:{index}", "ok", torch.cuda.get_device_name(index))
        for index in range(torch.cuda.device_count())
    ]


def _extras() -> list[Line]:
    lines = []
    for requirement in requires("shipworthy") or ():
        match = _REQUIREMENT.match(requirement)
        if match is None or match[2] not in _USES:
            continue
        distribution, extra = match[1], match[2]
        found, use = _distribution(distribution), _USES[extra]
        state: Literal["ok", "missing"] = "ok" if found else "missing"
        detail = f"{found}: {use}" if found else f"to {use}: pip install 'shipworthy[{extra}]'"
        lines.append(Line("extra", f"{extra} ({distribution})", state, detail))
    return lines


def _tools() -> list[Line]:
    compiler = next((path for path in map(shutil.which, ("g++", "clang++")) if path), None)
    if compiler is None:
        return [Line("tool", "C++ compiler", "missing", "to export with AOTInductor, install g++ or clang++")]
    return [Line("tool", "C++ compiler", "ok", f"{compiler}: export with AOTInductor")]


def _distribution(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
