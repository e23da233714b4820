"""What this host is, found without torch or any engine."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    capability: str | None
    """Compute capability, such as 9.0; None where the driver's nvidia-smi is missing."""
    memory: int | None
    """Bytes, None likewise."""

    @property
    def flag(self) -> str | None:
        """As the CUDA compiler calls its instruction set: sm_90."""
        return None if self.capability is None else f"sm_{self.capability.replace('.', '')}"

    def __str__(self) -> str:
        return self.name if self.capability is None else f"{self.name} (compute capability {self.capability})"


@dataclass(frozen=True, slots=True)
class Host:
    arch: str
    """x86-64, aarch64, or the platform's own word."""
    cpu: str
    """The processor's name."""
    isa: frozenset[str]
    """Instruction set extensions, as the operating system calls them (avx512_bf16, asimddp)."""
    cores: int
    """Processors that this process may use: affinity and control group are honoured."""
    memory: int
    """Bytes of physical memory."""
    os: str
    python: str
    devices: tuple[str, ...] = ("cpu",)
    """cpu, and cuda where there is an NVIDIA GPU that this process may use."""
    gpus: tuple[Gpu, ...] = ()


class Requires(Protocol):
    """What is asked of a host; the manifest's Requirements are this."""

    @property
    def engine(self) -> str: ...
    @property
    def arch(self) -> str | None: ...
    @property
    def isa(self) -> tuple[str, ...]: ...
    @property
    def device(self) -> str: ...


_COMPILED_FOR_NAMES = """
    sse4_1 sse4_2 popcnt movbe aes pclmulqdq xsave f16c rdrand avx avx2 fma bmi1 bmi2 abm adx rdseed sha_ni avx512f
    avx512dq avx512cd avx512bw avx512vl avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg
    avx512_vpopcntdq avx512_bf16 avx512_fp16 avx_vnni gfni vaes vpclmulqdq amx_tile amx_int8 amx_bf16 asimd
    asimdhp asimddp fphp atomics crc32 sve sve2 bf16 i8mm svebf16 svei8mm"""
_COMPILED_FOR = _COMPILED_FOR_NAMES.split()


def compiler_isa(host: Host, device: str = "cpu") -> tuple[str, ...]:
    """The extensions of this host that a compiler told to use all of them (-march=native) may have used.

    For cuda also the GPU's, such as sm_90: kernels that are compiled for one generation do not run on another."""
    flags = tuple(flag for flag in _COMPILED_FOR if flag in host.isa)
    return flags if device == "cpu" else (*flags, *(gpu.flag for gpu in host.gpus[:1] if gpu.flag is not None))


def unmet(requires: Requires, host: Host) -> str | None:
    """The first requirement that `host` does not meet, with what to do about it; None where it meets all."""
    # The engines ask for the host themselves.
    from .engines import engine_named

    engine = engine_named(requires.engine)
    if importlib.util.find_spec(engine.module) is None:
        return f"the engine {engine.name!r} is not installed; install it with: pip install 'shipworthy[{engine.extra}]'"
    if requires.arch is not None and requires.arch != host.arch:
        return f"it was compiled for {requires.arch}, this host is {host.arch}; build a variant for {host.arch}"
    if requires.device not in host.devices:
        return f"it needs the device {requires.device!r}; this host has {', '.join(host.devices)}" + _no_gpu(requires)
    if requires.device == "cuda" and engine.module == "torch" and (lacking := cuda_lacking(host)) is not None:
        return "; ".join(lacking)
    gpus = {gpu.flag for gpu in host.gpus}
    if other := [flag for flag in requires.isa if flag.startswith("sm_") and gpus and flag not in gpus]:
        shown = ", ".join(map(str, host.gpus))
        return f"it was compiled for GPUs of the kind {', '.join(other)}, this host has {shown}; build it on such a GPU"
    if missing := [flag for flag in requires.isa if not flag.startswith("sm_") and flag not in host.isa]:
        return (
            f"it was compiled for processors with {', '.join(missing)}, which this one ({host.cpu}) does not have; "
            "build it on this kind of host, or pack a variant that is not compiled"
        )
    return None


def _no_gpu(requires: Requires) -> str:
    return "; serve it where an NVIDIA GPU and its driver are, or pack a variant for the CPU" * (
        requires.device == "cuda"
    )


def cuda_lacking(host: Host) -> tuple[str, str] | None:
    """What a graph of torch's lacks here to run on a GPU, and the remedy; None where nothing is known to lack.

    Found without torch, which may still see no device: its CUDA can be newer than the driver."""
    if "cuda" not in host.devices:
        return (
            "this host has no NVIDIA GPU that this process may use",
            'run it on a host with one, or use device = "cpu"',
        )
    version = _torch_version()
    if version is not None and version.endswith("+cpu"):
        return (
            f"the installed torch {version} is built for the CPU only",
            "install torch for CUDA: https://pytorch.org/get-started/locally",
        )
    return None


def _torch_version() -> str | None:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def this_host() -> Host:
    facts = _macos() if sys.platform == "darwin" else _linux()
    gpus = _gpus()
    return Host(
        arch={"x86_64": "x86-64", "AMD64": "x86-64", "arm64": "aarch64"}.get(platform.machine(), platform.machine()),
        cpu=facts[0],
        isa=facts[1],
        cores=_cores(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        devices=("cpu", "cuda") if gpus else ("cpu",),
        gpus=gpus,
    )


def _gpus() -> tuple[Gpu, ...]:
    """The GPUs of NVIDIA's driver; none where CUDA_VISIBLE_DEVICES hides them."""
    if not Path("/dev/nvidiactl").exists() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
        return ()
    if (program := shutil.which("nvidia-smi")) is not None:
        query = [program, "--query-gpu=name,compute_cap,memory.total", "--format=csv,noheader,nounits"]
        try:
            said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            said = ""
        if gpus := read_nvidia_smi(said):
            return gpus
    names = (read_gpu_information(file.read_text()) for file in Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return tuple(Gpu(name, None, None) for name in names) or (Gpu("NVIDIA GPU", None, None),)


def read_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """GPUs from `nvidia-smi --query-gpu=name,compute_cap,memory.total --format=csv,noheader,nounits`; MiB there."""
    rows = ([part.strip() for part in line.rsplit(",", 2)] for line in text.splitlines())
    return tuple(
        Gpu(row[0], row[1], int(row[2]) << 20 if row[2].isdigit() else None)
        for row in rows
        if len(row) == 3 and row[1].replace(".", "", 1).isdigit()
    )


def read_gpu_information(text: str) -> str:
    """The name in /proc/driver/nvidia/gpus/*/information."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return fields.get("Model", "NVIDIA GPU").strip()


def _linux() -> tuple[str, frozenset[str]]:
    info = Path("/proc/cpuinfo")
    return read_cpuinfo(info.read_text()) if info.exists() else (platform.processor() or "unknown", frozenset())


def read_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Name and flags of the first processor in /proc/cpuinfo. ARM calls them Features, and often gives no name."""
    first: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            first.setdefault(key.strip(), value.strip())
    name = first.get("model name") or first.get("Model") or f"implementer {first.get('CPU implementer', 'unknown')}"
    return name, frozenset((first.get("flags") or first.get("Features") or "").split())


def _macos() -> tuple[str, frozenset[str]]:
    return read_sysctl(subprocess.run(["/usr/sbin/sysctl", "-a"], capture_output=True, text=True, check=True).stdout)


def read_sysctl(text: str) -> tuple[str, frozenset[str]]:
    """Name and flags from `sysctl -a`: machdep.cpu.*features on Intel, hw.optional.arm.FEAT_* on Apple processors."""
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    intel = " ".join(value for key, value in values.items() if key.startswith("machdep.cpu.") and "features" in key)
    flags = {flag.lower().replace(".", "_") for flag in intel.split()}
    flags |= {{"avx1_0": "avx"}.get(flag, flag) for flag in flags}
    arm = {"FEAT_BF16": "bf16", "FEAT_I8MM": "i8mm", "FEAT_DotProd": "asimddp", "FEAT_FP16": "asimdhp"}
    flags |= {word for key, word in arm.items() if values.get(f"hw.optional.arm.{key}", "0").strip() == "1"}
    return values.get("machdep.cpu.brand_string", "unknown"), frozenset(flags)


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = Path("/sys/fs/cgroup/cpu.max")
    quota, period = (limit.read_text().split() if limit.exists() else ("max", "1"))[:2]
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))
