"""Reading: what is right is read; what is wrong is refused with its line, its key and what was meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from contract_cases import DIGITS

from shipworthy.contract import Dim, read_contract
from shipworthy.errors import ContractError

Write = Callable[[str | bytes], Path]
Refused = Callable[[str | bytes], ContractError]


def test_reads_all_parts(write: Write) -> None:
    path = write(DIGITS)
    contract = read_contract(path)
    assert contract.root == path.parent
    assert contract.inputs["image"].shape == (Dim("batch"), 1, 8, 8)
    assert contract.inputs["image"].accept is not None
    assert contract.inputs["image"].accept.scale == 0.0625
    assert contract.scored == "logits"
    assert contract.limits.confidence == 0.95
    assert contract.target.threads == 2
    assert contract.path("validation.npz") == path.parent / "validation.npz"


def test_root_is_absolute_though_the_path_is_not(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(DIGITS)
    monkeypatch.chdir(path.parent)
    assert read_contract("shipworthy.toml").root == path.parent


def test_byte_order_mark_is_no_fault(write: Write) -> None:
    assert read_contract(write(b"\xef\xbb\xbf" + DIGITS.encode())).name == "digits"


@pytest.mark.parametrize(
    ("right", "wrong", "key", "reason", "remedy"),
    [
        (
            '"float32"\nshape  = ["batch", 1',
            '"flot32"\nshape  = ["batch", 1',
            "inputs.image.dtype",
            '"flot32"',
            '"float32"',
        ),
        (
            '"float32"\nshape  = ["batch", 1',
            '"double"\nshape  = ["batch", 1',
            "inputs.image.dtype",
            '"double"',
            '"float64"',
        ),
        ('kind   = "classification"', 'kind = "clasification"', "task.kind", '"clasification"', '"classification"'),
        ('kind  = "logits"', 'kind = "softmax"', "outputs.logits.kind", '"softmax"', '"probabilities"'),
        ("model   =", "modle =", "modle", 'no key "modle"', 'write "model"'),
        ("[limits]", "[limit]", "limit", 'no key "limit"', 'write "limits"'),
        ("confidence =", "labels =", "limits.labels", 'no key "labels"', "move it into [task]"),
        ("confidence =", "confidance =", "limits.confidance", 'no key "confidance"', 'write "confidence"'),
        ("confidence = 0.95", "confidence = 95", "limits.confidence", "a number below 1, got 95", ""),
        (
            "confidence = 0.95",
            'confidence = "0.95"',
            "limits.confidence",
            'a number, got "0.95"',
            "0.95 without quotes",
        ),
        ("confidence = 0.95", "confidence = true", "limits.confidence", "a number, got true", ""),
        ("confidence = 0.95", "p99_ms = nan", "limits.p99_ms", "a finite number, got nan", ""),
        ('name    = "digits"', 'name = "My Digits!"', "name", 'got "My Digits!"', 'write "my-digits"'),
        ('name    = "digits"', "name = 3", "name", "a text in quotes, got 3", 'write "3"'),
        ('name    = "digits"', "", "name", "is missing", 'add name = "my-model"'),
        ("size = [8, 8]", "size = 8", "inputs.image.accept.size", "a list, got 8", "write [8]"),
        ("size = [8, 8]", "size = [8]", "inputs.image.accept.size[1]", "is missing", ""),
        ("size = [8, 8]", "size = [8, 0]", "inputs.image.accept.size[1]", "above 0, got 0", ""),
        ('["batch", 1, 8, 8]', '["batch", 1, "8 px", 8]', "inputs.image.shape[2]", "'8 px' is no dimension", ""),
        ('["batch", 1, 8, 8]', '["batch", 1, "h:9..2", 8]', "inputs.image.shape[2]", "write h:2..9", ""),
        ('["batch", 1, 8, 8]', "[4, 1, 8, 8]", "inputs.image.shape", '"batch"', ""),
        ('[data]\nvalidation = "validation.npz"', "[data]\nvalidation = 3", "data.validation", "got 3", ""),
        ("[data]\n", '[data]\nmetric = "acuracy"\n', "data.metric", '"acuracy"', 'write "accuracy"'),
        ("[data]\n", '[target]\ndevice = "gpu"\n[data]\n', "target.device", '"gpu"', 'write "cuda"'),
        ("[data]\n", '[search]\nengines = ["onnx"]\n[data]\n', "search.engines[0]", '"onnx"', 'write "onnxruntime"'),
        ("[data]\n", '[search]\nprecisions = ["float32"]\n[data]\n', "search.precisions[0]", "", 'write "fp32"'),
        ("[data]\n", '[search]\nbudget = "soon"\n[data]\n', "search.budget", 'such as "90s"', ""),
        ("[data]\n", '[encode.t]\nkind = "txt"\n[data]\n', "encode.t", '"txt"', 'write "text"'),
        ("[data]\n", "[encode.t]\nfeeds = []\n[data]\n", "encode.t", "does not say its kind", ""),
        ("[data]\n", "[search]\nprecisions = []\n[data]\n", "search.precisions", "at least 1", ""),
    ],
)
def test_fault_is_named(refused: Refused, right: str, wrong: str, key: str, reason: str, remedy: str) -> None:
    assert right in DIGITS
    text = DIGITS.replace(right, wrong, 1)
    error = refused(text)
    line, got_key = re.fullmatch(r".*shipworthy\.toml(?::(\d+))?: (.*)", error.culprit).groups()  # type: ignore[union-attr]
    assert got_key == key
    assert reason in error.reason
    assert remedy in error.remedy
    if wrong:
        first = 1 + text[: DIGITS.index(right)].count("\n")
        assert first <= int(line) <= first + wrong.count("\n")


def test_root_is_no_key(refused: Refused) -> None:
    error = refused('root = "/etc"\n' + DIGITS)
    assert error.culprit.endswith("shipworthy.toml:1: root")


def test_all_faults_are_named_in_the_order_of_the_file(refused: Refused) -> None:
    text = DIGITS.replace('"train:build_model"', "3").replace("[8, 8]", '"8"', 1).replace("0.95", "2")
    lines = str(refused(text)).splitlines()
    assert [re.search(r"toml:(\d+): ([\w.]+)", line).groups() for line in lines] == [  # type: ignore[union-attr]
        ("2", "model"),
        ("7", "inputs.image.accept.size"),
        ("23", "limits.confidence"),
    ]


def test_syntax_error_has_line_column_and_remedy(refused: Refused) -> None:
    error = refused(DIGITS.replace('name    = "digits"', "name = digits"))
    assert error.culprit.endswith("shipworthy.toml:1:8")
    assert "texts stand in quotes" in error.remedy


@pytest.mark.parametrize(
    ("text", "culprit", "remedy"),
    [
        ('name = "x"\nname = "y"', ":2:11", "stands twice"),
        ('[task]\nkind = "tensors"\n[task]\n', ":3:6", "stands twice"),
        ('labels = ["a", "b"', ":1:19", "]"),
        ('name = "x', ":1:10", "quote"),
        ('name "x"', ":1:6", "key = value"),
        ("a = 1 b = 2", ":1:7", "one key"),
        ('a = "\\q"', ":1:8", "backslash"),
        ("a = {b = 1", ":1:11", "}"),
        ("x = {a = 1}\nx.b = 2", ":2:8", "inside its braces"),
    ],
)
def test_syntax_errors(refused: Refused, text: str, culprit: str, remedy: str) -> None:
    error = refused(text)
    assert error.culprit.endswith(culprit)
    assert error.reason.startswith("is not TOML")
    assert remedy in error.remedy


def test_deep_nesting_is_refused(refused: Refused) -> None:
    assert "TOML" in str(refused("a = " + "[" * 20_000)) or "nested" in str(refused("a = " + "[" * 20_000))
    assert "nested too deeply" in refused("a = " + "[" * 20_000 + "]" * 20_000).reason


def test_missing_file_names_the_near_one(tmp_path: Path) -> None:
    (tmp_path / "shipworthy.toml").write_text(DIGITS)
    with pytest.raises(ContractError, match=r"shipwothy.toml: there is no such file; there is .*shipworthy\.toml"):
        read_contract(tmp_path / "shipwothy.toml")
    with pytest.raises(ContractError, match="`shipworthy init` writes one"):
        read_contract(tmp_path / "nowhere" / "x.toml")


def test_folder_names_the_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"is a folder; name the contract's file"):
        read_contract(tmp_path)
    (tmp_path / "shipworthy.toml").write_text(DIGITS)
    with pytest.raises(ContractError, match=r"is a folder; name the file in it: .*shipworthy\.toml"):
        read_contract(tmp_path)


def test_other_bytes_are_refused(refused: Refused, tmp_path: Path) -> None:
    assert "is not UTF-8 text (byte 8)" in str(refused(b'name = "\xff"'))
    with pytest.raises(ContractError, match="cannot be read"):
        read_contract(tmp_path / "a\0b")


def test_tokenizer_must_be_there(write: Write, tmp_path: Path) -> None:
    text = """name = "t"
[inputs.input_ids]
dtype = "int64"
shape = ["batch", "tokens"]
[encode.text]
kind = "text"
tokenizer = "tokenizer.json"
"""
    path = write(text)
    (tmp_path / "tokeniser.json").write_text("{}")
    with pytest.raises(ContractError) as caught:
        read_contract(path)
    assert caught.value.culprit.endswith("shipworthy.toml:7: encode.text.tokenizer")
    assert caught.value.remedy == 'there is "tokeniser.json"'
    (tmp_path / "tokenizer.json").write_text("{}")
    assert read_contract(path).encode["text"].kind == "text"
