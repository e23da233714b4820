"""Which variant a host takes, and the reasons that it gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlp
import pytest

from shipworthy.errors import NoUsableVariant
from shipworthy.package import Package, Requirements, Variant, choose_variant, read_package
from shipworthy.package.choice import obstacle
from shipworthy.runtime import Host, this_host

HOST = replace(this_host(), arch="x86-64", isa=frozenset({"avx2"}), devices=("cpu",))


def needing(name: str, **requires: Any) -> Variant:
    return mlp.variant("onnxruntime", id=name, requires=Requirements(**{"engine": "onnxruntime", **requires}))


def package_of(stored: Path, *variants: Variant) -> Package:
    with read_package(stored) as package:
        return replace(package, manifest=package.manifest.model_copy(update={"variants": variants}))


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ({"engine": "tomorrow"}, "does not know the engine 'tomorrow'; update shipworthy"),
        ({"arch": "aarch64"}, "aarch64"),
        ({"isa": ("avx2", "avx512f")}, "avx512f"),
        ({"device": "cuda"}, "cuda"),
        ({"executes_code": True}, "--allow-code"),
    ],
)
def test_what_a_host_does_not_meet(requires: dict[str, Any], said: str) -> None:
    reason = obstacle(needing("v", **requires), HOST)
    assert reason is not None and said in reason


@pytest.mark.parametrize("requires", [{}, {"arch": "x86-64", "isa": ("avx2",)}, {"engine_version": "0.0.1"}])
def test_what_a_host_meets(requires: dict[str, Any]) -> None:
    assert obstacle(needing("v", **requires), HOST) is None


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reason = obstacle(needing("v"), HOST)
    assert reason is not None and "shipworthy[onnxruntime]" in reason


def test_the_first_that_fits_is_taken_and_the_others_are_explained(stored: Path) -> None:
    code, elsewhere, here = needing("code", executes_code=True), needing("elsewhere", arch="aarch64"), needing("here")
    choice = choose_variant(package_of(stored, code, elsewhere, here, needing("later")), HOST)
    assert choice.variant is here
    assert [name for name, _ in choice.passed_over] == ["code", "elsewhere"]
    assert "executable code" in choice.passed_over[0][1] and "aarch64" in choice.passed_over[1][1]


def test_code_is_taken_where_it_is_allowed(stored: Path) -> None:
    package = package_of(stored, needing("code", executes_code=True), needing("plain"))
    assert choose_variant(package, HOST, allow_code=True).variant.id == "code"
    assert choose_variant(package, HOST).variant.id == "plain"


def test_none_fits(stored: Path) -> None:
    package = package_of(stored, needing("code", executes_code=True), needing("elsewhere", arch="aarch64"))
    with pytest.raises(NoUsableVariant) as caught:
        choose_variant(package, HOST)
    assert "code: carries executable code" in str(caught.value) and "elsewhere:" in str(caught.value)


def test_the_stored_package_is_usable_here(stored: Path) -> None:
    host: Host = this_host()
    with read_package(stored) as package:
        assert choose_variant(package, host).variant.id == "onnxruntime-fp32"
