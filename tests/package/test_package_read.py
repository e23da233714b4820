"""Reading: the order of the checks, the errors of each, and stored packages of every format."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlp
import numpy as np
import pytest

from shipworthy.errors import PackageError, TamperedPackage, UnknownFormat
from shipworthy.package import FORMAT, GoldenCase, read_package
from shipworthy.package.golden import Golden, save_golden

Reseal = Callable[..., None]


@pytest.mark.parametrize("form", ["stored", "stored_ship"])
def test_stored_package_of_format_1_is_read(form: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(form)
    with read_package(path) as package:
        assert package.path == path
        assert package.manifest.format == 1
        assert package.manifest.created == mlp.CREATED
        assert package.contract.model_copy(update={"root": Path()}) == mlp.contract()
        assert package.contract.root == package.root
        assert [variant.id for variant in package.manifest.variants] == ["onnxruntime-fp32", "openvino-fp32"]
        assert package.manifest.variants == (mlp.variant("onnxruntime"), mlp.variant("openvino"))
        # Settings that a contract has gained since have changed the digest of the same contract.
        assert package.record == mlp.record().model_copy(update={"contract_digest": package.record.contract_digest})
        assert package.digest == (package.root / "DIGEST").read_text().strip()
        assert package.size == sum(path.stat().st_size for path in package.root.rglob("*") if path.is_file())
        for read, written in zip(package.golden.cases, mlp.golden().cases, strict=True):
            np.testing.assert_array_equal(read.inputs["features"], written.inputs["features"])
            np.testing.assert_array_equal(read.outputs["logits"], written.outputs["logits"])


def test_both_stored_forms_are_one_package(stored: Path, stored_ship: Path) -> None:
    with read_package(stored) as folder, read_package(str(stored_ship)) as ship:
        assert folder.digest == ship.digest == hashlib.sha256((stored / "manifest.json").read_bytes()).hexdigest()
        assert folder.manifest == ship.manifest


def test_every_format_has_a_stored_package() -> None:
    folder = Path(__file__).parent / "stored"
    for number in range(1, FORMAT + 1):
        assert (folder / f"format{number}" / "manifest.json").is_file()
        assert (folder / f"format{number}.ship").is_file()


def test_stored_packages_are_small() -> None:
    folder = Path(__file__).parent / "stored"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 60_000


def test_reading_a_folder_writes_nothing(copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [copy, *copy.rglob("*")]}
    with read_package(copy):
        pass
    assert {path: path.stat().st_mtime_ns for path in [copy, *copy.rglob("*")]} == before


def test_reading_loads_no_engine_and_executes_nothing(stored_ship: Path) -> None:
    code = f"""
import sys
from shipworthy.package import read_package
with read_package({str(stored_ship)!r}):
    pass
events = []
watched = "exec compile import marshal.loads pickle.find_class os.system subprocess.Popen ctypes.dlopen".split()
sys.addaudithook(lambda event, given: event in watched and events.append((event, given)))
with read_package({str(stored_ship)!r}) as package:
    assert package.manifest.name == "iris"
assert events == [], events
print([name for name in ("torch", "onnxruntime", "openvino", "onnx", "cloudpickle") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("number", [0, 2, 99, -1])
def test_unknown_format(copy: Path, reseal: Reseal, number: int) -> None:
    reseal(copy, lambda manifest: manifest.update(format=number, variants="of a future shape"))
    with pytest.raises(UnknownFormat, match=f"has format {number}; this version reads 1; update"):
        read_package(copy)


@pytest.mark.parametrize("number", [None, "1", 1.0, True, [1]])
def test_no_format_number(copy: Path, reseal: Reseal, number: object) -> None:
    reseal(copy, lambda manifest: manifest.update(format=number))
    with pytest.raises(UnknownFormat, match="no format number"):
        read_package(copy)


def test_hashes_come_before_the_schema(copy: Path, reseal: Reseal) -> None:
    reseal(copy, lambda manifest: manifest.update(variants=[]))
    with pytest.raises(PackageError, match=r"manifest\.json: variants") as caught:
        read_package(copy)
    assert not isinstance(caught.value, TamperedPackage)
    (copy / "card.md").write_bytes(b"another")
    with pytest.raises(TamperedPackage, match=r"card\.md"):
        read_package(copy)


def test_the_digest_comes_before_everything(copy: Path, reseal: Reseal) -> None:
    reseal(copy, lambda manifest: manifest.update(format=99))
    (copy / "manifest.json").write_bytes((copy / "manifest.json").read_bytes() + b" ")
    with pytest.raises(TamperedPackage, match=r"manifest\.json: has the sha256 .* but DIGEST says"):
        read_package(copy)


def nonsense(manifest: dict[str, Any]) -> None:
    manifest["surprise"] = 1


def no_contract(manifest: dict[str, Any]) -> None:
    del manifest["contract"]


def contradiction(manifest: dict[str, Any]) -> None:
    manifest["contract"]["task"]["labels"] = ["one", "two"]


def other_signature(manifest: dict[str, Any]) -> None:
    manifest["signature"]["outputs"]["logits"]["dtype"] = "float64"


def same_id(manifest: dict[str, Any]) -> None:
    manifest["variants"][1]["id"] = manifest["variants"][0]["id"]


def outside(manifest: dict[str, Any]) -> None:
    manifest["variants"][0]["directory"] = "../elsewhere"


def in_assets(manifest: dict[str, Any]) -> None:
    manifest["variants"][0]["directory"] = "assets"


def no_graph(manifest: dict[str, Any]) -> None:
    manifest["variants"][0]["directory"] = "variants/openvino-fp32"


def a_pickle(manifest: dict[str, Any]) -> None:
    manifest["variants"][0]["requires"]["engine"] = "torch"


def hidden_code(manifest: dict[str, Any]) -> None:
    manifest["variants"][0]["requires"]["engine"] = "torchscript"


def infinite_tolerance(manifest: dict[str, Any]) -> None:
    manifest["variants"][0]["tolerance"]["logits"] = "Infinity"


def tokenizer_elsewhere(manifest: dict[str, Any]) -> None:
    manifest["contract"]["inputs"]["features"].update(dtype="int64", shape=["batch", "tokens"])
    manifest["signature"]["inputs"]["features"].update(dtype="int64", shape=["batch", "tokens"])
    manifest["contract"]["encode"] = {"text": {"kind": "text", "tokenizer": "../../etc/passwd", "feeds": ["features"]}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nonsense, "surprise"),
        (no_contract, "contract: Field required"),
        (contradiction, "labels"),
        (other_signature, "signature: is not that of the contract"),
        (same_id, "occurs twice"),
        (outside, "not below variants/"),
        (in_assets, "not below variants/"),
        (no_graph, r"variants/openvino-fp32/model\.onnx is not listed"),
        (a_pickle, "'torch' needs the user's own code"),
        (hidden_code, "'torchscript' carries executable code"),
        (infinite_tolerance, "tolerance"),
        (tokenizer_elsewhere, r"encode\.text\.tokenizer: the file '\.\./\.\./etc/passwd' is not listed"),
    ],
)
def test_a_manifest_that_makes_no_sense(
    copy: Path, reseal: Reseal, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    reseal(copy, change)
    with pytest.raises(PackageError, match=said) as caught:
        read_package(copy)
    assert "manifest.json" in caught.value.culprit
    assert not isinstance(caught.value, TamperedPackage)


@pytest.mark.parametrize(
    "name", ["../card.md", "/etc/passwd", "a\\b", "CARD.md", "manifest.json", "card.md/x", "", "\ud800"]
)
def test_a_table_of_files_that_leaves_the_package(copy: Path, reseal: Reseal, name: str) -> None:
    reseal(copy, lambda manifest: manifest["files"].update({name: manifest["files"]["card.md"]}))
    with pytest.raises(PackageError):
        read_package(copy)


@pytest.mark.parametrize("files", [None, [], {"card.md": {}}, {"card.md": {"sha256": "0" * 64, "size": -1}}])
def test_a_table_of_files_that_is_none(copy: Path, reseal: Reseal, files: object) -> None:
    reseal(copy, lambda manifest: manifest.update(files=files))
    with pytest.raises(PackageError, match="table of files"):
        read_package(copy)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"format": 1, "format": 1}',
        b"\xff",
        b"[" * 200_000,
        b'{"format": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "list", "null", "open", "duplicate", "bytes", "deep", "digits"],
)
def test_a_manifest_that_is_no_json(copy: Path, text: bytes) -> None:
    (copy / "manifest.json").write_bytes(text)
    (copy / "DIGEST").write_text(hashlib.sha256(text).hexdigest() + "\n")
    with pytest.raises(PackageError, match=r"manifest\.json"):
        read_package(copy)


def test_members_of_later_versions_are_taken_where_they_are_listed(copy: Path, reseal: Reseal) -> None:
    (copy / "reference").mkdir()
    (copy / "reference" / "onnxruntime-fp32.safetensors").write_bytes(b"scores")
    (copy / "signature.json").write_text("{}")
    reseal(copy)
    with read_package(copy) as package:
        assert "signature.json" in package.manifest.files


def test_evidence_that_is_none(copy: Path, reseal: Reseal) -> None:
    (copy / "evidence.json").write_text(json.dumps({"name": "iris"}))
    reseal(copy)
    with pytest.raises(PackageError, match=r"evidence\.json: contract_digest: Field required"):
        read_package(copy)


def test_golden_file_that_is_none(copy: Path, reseal: Reseal) -> None:
    (copy / "golden.safetensors").write_bytes(b"garbage")
    reseal(copy)
    with pytest.raises(PackageError, match=r"golden\.safetensors: is no readable"):
        read_package(copy)


ROWS = mlp.features(2)


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ((), "no golden case"),
        ((GoldenCase({"features": ROWS}, {}),), "golden case 0: its outputs are"),
        ((GoldenCase({"other": ROWS}, {"logits": mlp.eager(ROWS)}),), "golden case 0: its inputs are"),
        (
            (GoldenCase({"features": ROWS.astype("float64")}, {"logits": mlp.eager(ROWS)}),),
            "features: expected float32",
        ),
        ((GoldenCase({"features": ROWS}, {"logits": mlp.eager(ROWS)[:, :2]}),), "logits: expected"),
    ],
)
def test_golden_cases_that_do_not_fit(copy: Path, reseal: Reseal, cases: tuple[GoldenCase, ...], said: str) -> None:
    save_golden(Golden(cases), copy / "golden.safetensors")
    reseal(copy)
    with pytest.raises(PackageError, match=said):
        read_package(copy)


def test_golden_tensor_of_no_role(copy: Path, reseal: Reseal) -> None:
    from safetensors.numpy import save

    (copy / "golden.safetensors").write_bytes(save({"000000/weights/features": ROWS}))
    reseal(copy)
    with pytest.raises(PackageError, match="no golden input or output"):
        read_package(copy)
