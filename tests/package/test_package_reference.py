"""References in a package: written for its variants, audited like any file, and optional."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlp
import numpy as np
import pytest

from shipworthy.errors import PackageError, TamperedPackage
from shipworthy.package import read_package, verify, write_ship
from shipworthy.signals import Reference, fit, make_reference, read_reference, save_reference, watch


@pytest.fixture
def reference() -> Reference:
    calibration, rows = mlp.features(50, 1), mlp.features(300, 2)
    what = mlp.contract()
    logits = mlp.eager(rows)
    constants = fit(what, [({"features": calibration}, {})])
    return make_reference(what, constants, [({"features": rows}, {"logits": logits}, logits.argmax(1))])


@pytest.fixture
def given(tmp_path: Path, reference: Reference) -> dict[str, Any]:
    """A package of one variant, with its reference."""
    file = save_reference(reference, tmp_path / "made.safetensors")
    variants = [(mlp.variant("onnxruntime"), mlp.write_onnx(tmp_path / "work" / "graph"))]
    return {"variants": variants, "references": {"onnxruntime-fp32": file}}


def write(folder: Path, given: dict[str, Any]) -> Path:
    return mlp.write(folder, folder.parent / "work", **given)


@pytest.mark.parametrize("ship", [False, True], ids=["folder", "ship"])
def test_a_reference_is_found_by_its_variant(
    tmp_path: Path, given: dict[str, Any], reference: Reference, ship: bool
) -> None:
    path = write(tmp_path / "package", given)
    path = write_ship(path, tmp_path / "package.ship") if ship else path
    with read_package(path) as package:
        file = package.reference("onnxruntime-fp32")
        assert file is not None
        assert file.relative_to(package.root).as_posix() == "reference/onnxruntime-fp32.safetensors"
        read = read_reference(file, "the reference")
        np.testing.assert_array_equal(read.scores, reference.scores)
        assert watch(package.contract, read, "the reference").signals == reference.signals
        assert package.reference("openvino-fp32") is None


def test_a_package_without_one_is_as_it_was(stored: Path) -> None:
    with read_package(stored) as package:
        assert [package.reference(variant.id) for variant in package.manifest.variants] == [None, None]


def test_the_same_reference_gives_the_same_bytes(tmp_path: Path, given: dict[str, Any]) -> None:
    one, two = write(tmp_path / "one", given), write(tmp_path / "two", given)
    assert (one / "DIGEST").read_bytes() == (two / "DIGEST").read_bytes()


def test_a_reference_of_no_variant_is_not_written(tmp_path: Path, given: dict[str, Any]) -> None:
    given["references"] = {"openvino-fp32": given["references"]["onnxruntime-fp32"]}
    with pytest.raises(PackageError, match="reference 'openvino-fp32': is of no variant; they are onnxruntime-fp32"):
        write(tmp_path / "package", given)
    assert not (tmp_path / "package").exists()


def test_a_file_that_is_no_reference_is_not_written(tmp_path: Path, given: dict[str, Any]) -> None:
    given["references"]["onnxruntime-fp32"].write_bytes(b"no")
    with pytest.raises(PackageError, match=r"made\.safetensors: is no readable safetensors file"):
        write(tmp_path / "package", given)
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("name", ["openvino-fp32.safetensors", "onnxruntime-fp32.npz", "more/onnxruntime-fp32.txt"])
def test_a_reference_of_no_variant_is_refused(
    tmp_path: Path, given: dict[str, Any], reseal: Callable[..., None], name: str
) -> None:
    path = write(tmp_path / "package", given)
    file = path / "reference" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"whatever")
    reseal(path)
    with pytest.raises(PackageError, match=f"the file reference/{name} is the reference of no variant"):
        read_package(path)


def test_a_changed_byte_of_a_reference_is_refused_by_name(tmp_path: Path, given: dict[str, Any]) -> None:
    path = write(tmp_path / "package", given)
    file = path / "reference" / "onnxruntime-fp32.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(TamperedPackage, match=r"reference/onnxruntime-fp32\.safetensors: has the sha256"):
        read_package(path)


def test_verifying_opens_references_too(tmp_path: Path, given: dict[str, Any], reference: Reference) -> None:
    assert verify(write(tmp_path / "right", given)).files == 8
    lying = replace(reference, constants={**reference.constants, "inputs/features/mean": np.zeros(9)})
    save_reference(lying, given["references"]["onnxruntime-fp32"])
    path = write(tmp_path / "wrong", given)
    with pytest.raises(PackageError, match=r"wrong/reference/onnxruntime-fp32\.safetensors: does not fit the contract"):
        verify(path)
