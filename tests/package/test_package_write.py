"""Writing: whole or not at all, the same bytes for the same input, and nothing that the reader would refuse."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlp
import numpy as np
import pytest

from shipworthy.contract import InputSpec, TextEncode
from shipworthy.errors import PackageError
from shipworthy.evidence import Candidate, CandidateResult, Evidence, Parity
from shipworthy.package import Golden, GoldenCase, Requirements, read_package, write_ship
from shipworthy.package.golden import read_golden, save_golden


@pytest.fixture
def onnx_only(tmp_path: Path) -> dict[str, Any]:
    """The quickest package: one variant."""
    return {"variants": [(mlp.variant("onnxruntime"), mlp.write_onnx(tmp_path / "work" / "graph"))]}


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write(folder: Path, given: dict[str, Any], **parts: Any) -> Path:
    return mlp.write(folder, folder.parent / "work", **{**given, **parts})


def test_members_of_a_package(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    assert sorted(tree(write(tmp_path / "package", onnx_only))) == [
        "DIGEST",
        "card.md",
        "evidence.json",
        "golden.safetensors",
        "manifest.json",
        "report.html",
        "variants/onnxruntime-fp32/model.onnx",
    ]


def test_same_input_gives_the_same_bytes(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    assert tree(write(tmp_path / "one", onnx_only)) == tree(write(tmp_path / "two", onnx_only))


def test_manifest_is_canonical(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    text = (write(tmp_path / "package", onnx_only) / "manifest.json").read_text()
    content = json.loads(text)
    assert text == json.dumps(content, indent=2) + "\n"
    assert list(content["files"]) == sorted(content["files"])


def test_order_of_inputs_is_kept(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    spec = InputSpec(dtype="float32", shape=("batch", 1))
    contract = mlp.contract(inputs={"zebra": spec, "ape": spec}, encode={})
    rows = np.ones((2, 1), np.float32)
    golden = Golden((GoldenCase({"ape": rows, "zebra": rows}, {"logits": mlp.eager(mlp.features(2))}),))
    with read_package(write(tmp_path / "package", onnx_only, contract=contract, golden=golden)) as package:
        assert list(package.manifest.signature.inputs) == ["zebra", "ape"]


def test_evidence_keeps_numbers_that_json_lacks(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    parity = Parity(
        output="logits", max_abs=math.nan, max_rel=math.inf, cosine=0.0, sqnr_db=-math.inf, worst_shape=(2, 4)
    )
    failed = CandidateResult(
        candidate=Candidate(engine="openvino", precision="bf16"),
        verdict="rejected",
        reason="NaN",
        gate="parity",
        evidence=Evidence(parity=(parity,)),
    )
    record = mlp.record(results=(failed,))
    folder = write(tmp_path / "package", onnx_only, record=record)
    json.loads((folder / "evidence.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    with read_package(folder) as package:
        read = package.record.results[0].evidence.parity[0]
        assert math.isnan(read.max_abs) and read.max_rel == math.inf and read.sqnr_db == -math.inf


def tokenizer(file: Path, word: str) -> str:
    """A tokenizer file that knows one word; its text."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizers.Tokenizer(tokenizers.models.WordLevel({word: 0}, unk_token=word)).save(str(file))
    return file.read_text()


def test_tokenizers_become_assets(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    ids = InputSpec(dtype="int64", shape=("batch", "tokens"))
    root = tmp_path / "project"
    (root / "my files").mkdir(parents=True)
    one, two = tokenizer(root / "my files" / "tokenizer.json", "one"), tokenizer(tmp_path / "two.json", "two")
    contract = mlp.contract(
        inputs={"ids": ids, "more": ids},
        encode={
            "text": TextEncode(kind="text", tokenizer="my files/tokenizer.json", feeds=("ids",)),
            "title": TextEncode(kind="text", tokenizer="elsewhere/tokenizer.json", feeds=("more",)),
        },
        root=root,
    )
    tokens = np.zeros((2, 3), np.int64)
    golden = Golden((GoldenCase({"ids": tokens, "more": tokens}, {"logits": mlp.eager(mlp.features(2))}),))
    assets = {"elsewhere/tokenizer.json": tmp_path / "two.json", "words/list.txt": tmp_path / "two.json"}
    with read_package(
        write(tmp_path / "package", onnx_only, contract=contract, golden=golden, assets=assets)
    ) as package:
        packed = {name: package.contract.path(encode.tokenizer) for name, encode in package.contract.encode.items()}
        assert {name: path.read_text() for name, path in packed.items()} == {"text": one, "title": two}
        assert all(path.parent == package.assets for path in packed.values())
        assert (package.assets / "words" / "list.txt").read_text() == two
        assert package.manifest.contract_digest == contract.digest


def test_a_tokenizer_file_that_is_none_is_refused(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "tokenizer.json").write_text("{}")
    contract = mlp.contract(
        inputs={"ids": InputSpec(dtype="int64", shape=("batch", "tokens"))},
        encode={"text": TextEncode(kind="text", tokenizer="tokenizer.json", feeds=("ids",))},
        root=tmp_path,
    )
    golden = Golden((GoldenCase({"ids": np.zeros((2, 3), np.int64)}, {"logits": mlp.eager(mlp.features(2))}),))
    with pytest.raises(PackageError, match=r"encode\.text\.tokenizer: .*tokenizer\.json: "):
        write(tmp_path / "package", onnx_only, contract=contract, golden=golden)
    assert not (tmp_path / "package").exists()


def test_a_missing_tokenizer_is_named(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    contract = mlp.contract(
        inputs={"ids": InputSpec(dtype="int64", shape=("batch", "tokens"))},
        encode={"text": TextEncode(kind="text", tokenizer="lost.json", feeds=("ids",))},
        root=tmp_path,
    )
    golden = Golden((GoldenCase({"ids": np.zeros((2, 3), np.int64)}, {"logits": mlp.eager(mlp.features(2))}),))
    with pytest.raises(PackageError, match=r"lost\.json: cannot be read: No such file"):
        write(tmp_path / "package", onnx_only, contract=contract, golden=golden)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"variants": []}, "has no variant"),
        ({"golden": Golden(())}, "no golden case"),
        ({"contract": mlp.contract(outputs={})}, "outputs are"),
        ({"assets": {"../evil": Path(__file__)}}, "leaves the package"),
        ({"assets": {"a b": Path(__file__)}}, "asset 'a b'"),
    ],
)
def test_what_cannot_be_a_package(tmp_path: Path, onnx_only: dict[str, Any], parts: dict[str, Any], said: str) -> None:
    with pytest.raises(PackageError, match=said):
        write(tmp_path / "package", onnx_only, **parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"id": "../evil"}, "cannot be the name of a folder"),
        ({"id": "a/b"}, "cannot be the name of a folder"),
        ({"requires": Requirements(engine="torch")}, "needs the user's own code"),
        ({"requires": Requirements(engine="torchscript")}, "carries executable code"),
        ({"requires": Requirements(engine="openvino")}, r"model\.xml is not listed"),
        ({"tolerance": {"logits": math.nan}}, "tolerance"),
    ],
)
def test_what_cannot_be_a_variant(tmp_path: Path, onnx_only: dict[str, Any], parts: dict[str, Any], said: str) -> None:
    graph = onnx_only["variants"][0][1]
    with pytest.raises(PackageError, match=said):
        write(tmp_path / "package", onnx_only, variants=[(mlp.variant("onnxruntime", **parts), graph)])
    assert not (tmp_path / "package").exists()


def test_a_variant_twice(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    with pytest.raises(PackageError, match="occurs twice"):
        write(tmp_path / "package", onnx_only, variants=onnx_only["variants"] * 2)


def test_what_stands_there_is_kept(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    for replace in (False, True):
        with pytest.raises(PackageError, match="is no package"):
            write(tmp_path / "folder", onnx_only, replace=replace)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "years of work"


def test_a_package_gives_way_only_when_told(tmp_path: Path, onnx_only: dict[str, Any]) -> None:
    (tmp_path / "package").mkdir()
    folder = write(tmp_path / "package", onnx_only)
    with pytest.raises(PackageError, match="holds a package already"):
        write(folder, onnx_only, card="another")
    with read_package(write(folder, onnx_only, card="another", replace=True)) as package:
        assert (package.root / "card.md").read_text() == "another"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "work"]


def test_a_failed_replacement_keeps_the_old_one(
    tmp_path: Path, onnx_only: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "package", onnx_only)
    before = tree(folder)
    real = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.suffix == ".part":
            raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PackageError, match="cannot be written: No space left on device"):
        write(folder, onnx_only, card="another", replace=True)
    assert tree(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "work"]


def test_a_place_that_cannot_be_written(tmp_path: Path, onnx_only: dict[str, Any], stored: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PackageError, match=r"package: cannot be written: Not a directory"):
        mlp.write(tmp_path / "file" / "package", tmp_path / "work", **onnx_only)
    (tmp_path / "taken.ship").mkdir()
    with pytest.raises(PackageError, match=r"taken\.ship: cannot be written: Is a directory"):
        write_ship(stored, tmp_path / "taken.ship")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.ship", "work"]


@pytest.mark.long
def test_a_writer_killed_at_any_moment_leaves_no_half_package(tmp_path: Path, stored: Path, effort: float) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path(mlp.__file__).parent)!r})
import mlp
from pathlib import Path
from shipworthy.package import write_package
stored, target = Path({str(stored)!r}), Path({str(tmp_path / "package")!r})
variants = [(mlp.variant(engine), stored / "variants" / f"{{engine}}-fp32") for engine in ("onnxruntime", "openvino")]
print("ready", flush=True)
while True:
    write_package(target, contract=mlp.contract(), variants=variants, golden=mlp.golden(), record=mlp.record(),
        report_html="x" * 2_000_000, card="", replace=target.exists())
"""
    rng = np.random.default_rng(7)
    for _ in range(max(2, int(40 * effort))):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(float(rng.uniform(0, 0.1)))
            os.kill(process.pid, signal.SIGKILL)
        if (tmp_path / "package").exists():
            with read_package(tmp_path / "package") as package:
                assert package.manifest.name == "iris"


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_golden_arrays_survive_whatever_their_strides(tmp_path: Path, dtype: str) -> None:
    from shipworthy.contract import Signature, TensorSpec

    rng = np.random.default_rng(3)
    array = (rng.normal(size=(6, 4, 2)) * 3).astype(dtype)
    strided = array.transpose(1, 0, 2)[:, ::2]
    scalar = np.asarray(array[0, 0, 0])
    save_golden(Golden((GoldenCase({"x/y": strided}, {"z": scalar}),)), tmp_path / "golden")
    signature = Signature(
        inputs={"x/y": TensorSpec(dtype=dtype, shape=("batch", "n", 2))},
        outputs={"z": TensorSpec(dtype=dtype, shape=())},
    )
    read = read_golden(tmp_path / "golden", "golden", signature)
    np.testing.assert_array_equal(read.cases[0].inputs["x/y"], strided)
    assert read.cases[0].outputs["z"].shape == ()
