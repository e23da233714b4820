"""What this host is, found without torch or any engine."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .engines import engine_named


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


def compiler_isa(host: Host) -> tuple[str, ...]:
    """The extensions of this host that a compiler told to use all of them (-march=native) may have used."""
    return tuple(flag for flag in _COMPILED_FOR if flag in host.isa)


def unmet(requires: Requires, host: Host) -> str | None:
    """The first requirement that `host` does not meet, with what to do about it; None where it meets all."""
    engine = engine_named(requires.engine)
    if importlib.util.find_spec(engine.module) is None:
        return f"the engine {engine.name!r} is not installed; install it with: pip install 'shipworthy[{engine.extra}]'"
    if requires.arch is not None and requires.arch != host.arch:
        return f"it was compiled for {requires.arch}, this host is {host.arch}; build a variant for {host.arch}"
    if missing := [flag for flag in requires.isa if flag not in host.isa]:
        return (
            f"it was compiled for processors with {', '.join(missing)}, which this one ({host.cpu}) does not have; "
            "build it on this kind of host, or pack a variant that is not compiled"
        )
    if requires.device not in host.devices:
        return f"it needs the device {requires.device!r}; this host has {', '.join(host.devices)}"
    return None


@functools.cache
def this_host() -> Host:
    facts = _macos() if sys.platform == "darwin" else _linux()
    return Host(
        arch={"x86_64": "x86-64", "AMD64": "x86-64", "arm64": "aarch64"}.get(platform.machine(), platform.machine()),
        cpu=facts[0],
        isa=facts[1],
        cores=_cores(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        devices=("cpu", "cuda") if Path("/dev/nvidiactl").exists() else ("cpu",),
    )


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
