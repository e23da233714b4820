"""What a host is, and whether it meets what a variant requires."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from shipworthy.package.manifest import Requirements
from shipworthy.runtime import Host, compiler_isa, host, this_host, unmet

HERE = Host(
    arch="x86-64",
    cpu="Some Processor",
    isa=frozenset({"avx2", "fma", "avx512f", "constant_tsc"}),
    cores=4,
    memory=8 << 30,
    os="Linux 6.1",
    python="3.11.7",
)

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu sse4_2 avx2 avx512_bf16

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM_CPUINFO = """processor\t: 0
Features\t: fp asimd asimddp bf16
CPU implementer\t: 0x41
"""
SYSCTL = """machdep.cpu.brand_string: Apple M2
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_I8MM: 0
hw.optional.arm.FEAT_DotProd: 1
"""
INTEL_SYSCTL = """machdep.cpu.brand_string: Intel(R) Core(TM) i7
machdep.cpu.features: FPU SSE4.2 AVX1.0
machdep.cpu.leaf7_features: AVX2 BMI1
"""


def test_this_host_knows_itself() -> None:
    found = this_host()
    assert found.arch in ("x86-64", "aarch64")
    assert found.cores >= 1
    assert found.memory > 10**8
    assert found.isa
    assert found.devices[0] == "cpu"


def test_linux_on_intel() -> None:
    assert host.read_cpuinfo(CPUINFO) == (
        "Intel(R) Xeon(R) Processor",
        frozenset({"fpu", "sse4_2", "avx2", "avx512_bf16"}),
    )


def test_linux_on_arm_has_features_and_no_name() -> None:
    assert host.read_cpuinfo(ARM_CPUINFO) == ("implementer 0x41", frozenset({"fp", "asimd", "asimddp", "bf16"}))


def test_macos_on_apple_and_on_intel() -> None:
    assert host.read_sysctl(SYSCTL) == ("Apple M2", frozenset({"bf16", "asimddp"}))
    name, isa = host.read_sysctl(INTEL_SYSCTL)
    assert name == "Intel(R) Core(TM) i7"
    assert isa >= {"sse4_2", "avx", "avx2", "bmi1"}


def test_compiled_code_needs_vector_extensions_but_not_every_flag() -> None:
    assert compiler_isa(HERE) == ("avx2", "fma", "avx512f")


@pytest.mark.parametrize(
    ("requirements", "reason"),
    [
        (Requirements(engine="openvino"), None),
        (Requirements(engine="aoti", arch="x86-64", isa=("avx2", "fma")), None),
        (Requirements(engine="aoti", arch="aarch64"), "compiled for aarch64, this host is x86-64"),
        (
            Requirements(engine="aoti", isa=("avx2", "amx_tile")),
            "processors with amx_tile, which this one .Some Processor",
        ),
        (Requirements(engine="onnxruntime", device="cuda"), "needs the device 'cuda'; this host has cpu"),
    ],
)
def test_unmet(requirements: Requirements, reason: str | None) -> None:
    found = unmet(requirements, HERE)
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(reason, found)


def test_a_device_that_is_there_is_met() -> None:
    assert unmet(Requirements(engine="onnxruntime", device="cuda"), replace(HERE, devices=("cpu", "cuda"))) is None


def test_an_engine_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None)
    found = unmet(Requirements(engine="openvino"), HERE)
    assert found == "the engine 'openvino' is not installed; install it with: pip install 'shipworthy[openvino]'"
