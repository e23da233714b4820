"""Texts and records."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encode_cases import contract

from shipworthy.contract import Contract
from shipworthy.encode import Codec
from shipworthy.encode.text import MAX_CHARACTERS
from shipworthy.errors import ContractError, InputError, MissingExtra


def text_contract(root: Path, length: Any = "tokens", dtype: str = "int64", **encode: Any) -> Contract:
    spec = {"dtype": dtype, "shape": ("batch", length)}
    given = {"kind": "text", "tokenizer": "tokenizer.json", "feeds": ("input_ids", "attention_mask"), **encode}
    return contract({"input_ids": spec, "attention_mask": spec}, {"text": given}, root)


def record_contract(shape: tuple[Any, ...] = ("batch", 3), dtype: str = "float32") -> Contract:
    encode = {"flower": {"kind": "record", "fields": ("length", "width", "age")}}
    return contract({"x": {"dtype": dtype, "shape": shape}}, encode)


def problems(codec: Codec, value: object) -> list[tuple[str, str]]:
    with pytest.raises(InputError) as caught:
        codec.instance(value)
    return [(problem.field, problem.reason) for problem in caught.value.problems]


def test_text_feeds_ids_and_mask(tokenizer_folder: Path) -> None:
    arrays = Codec(text_contract(tokenizer_folder)).instance({"text": "The cat barked"})
    assert arrays["input_ids"].tolist() == [2, 3, 0]
    assert arrays["attention_mask"].tolist() == [1, 1, 1]
    assert arrays["input_ids"].dtype == np.int64


def test_type_ids_come_third(tokenizer_folder: Path) -> None:
    spec = {"dtype": "int32", "shape": ("batch", "tokens")}
    encode = {"kind": "text", "tokenizer": "tokenizer.json", "feeds": ("a", "b", "c")}
    given = contract(dict.fromkeys("abc", spec), {"text": encode}, tokenizer_folder)
    assert Codec(given).instance({"text": "cat sat"})["c"].tolist() == [0, 0]


def test_assets_folder_stands_for_the_contracts(tokenizer_folder: Path, tmp_path: Path) -> None:
    codec = Codec(text_contract(tmp_path), assets=tokenizer_folder)
    assert codec.instance({"text": "cat"})["input_ids"].tolist() == [3]


def test_fixed_length_is_padded_and_truncated_only_on_request(tokenizer_folder: Path) -> None:
    codec = Codec(text_contract(tokenizer_folder, length=4))
    arrays = codec.instance({"text": "the cat"})
    assert arrays["input_ids"].tolist() == [2, 3, 1, 1]
    assert arrays["attention_mask"].tolist() == [1, 1, 0, 0]
    assert problems(codec, {"text": "the cat sat the cat"}) == [("text", "the text has 5 tokens; the model takes 4")]
    cut = Codec(text_contract(tokenizer_folder, length=4, max_length=3))
    assert cut.instance({"text": "the cat sat the cat"})["input_ids"].tolist() == [2, 3, 4, 1]


def test_dynamic_length_holds_its_bounds(tokenizer_folder: Path) -> None:
    codec = Codec(text_contract(tokenizer_folder, length="tokens:1..2"))
    assert problems(codec, {"text": "the cat sat"}) == [("text", "the text has 3 tokens; the model takes tokens:1..2")]
    assert problems(codec, {"text": ""}) == [("text", "the text has 0 tokens; the model takes tokens:1..2")]
    cut = Codec(text_contract(tokenizer_folder, length="tokens:1..2", max_length=2))
    assert cut.instance({"text": "the cat sat"})["input_ids"].tolist() == [2, 3]


def test_token_ids_may_be_sent_instead(tokenizer_folder: Path) -> None:
    codec = Codec(text_contract(tokenizer_folder))
    assert codec.instance({"input_ids": [2], "attention_mask": [1]})["input_ids"].tolist() == [2]
    assert [field for field, _ in problems(codec, {"text": "cat", "input_ids": [2]})] == ["text"]
    assert problems(codec, {})[0] == ("input_ids", "missing; expected int64 [tokens], or 'text'")


@pytest.mark.parametrize("value", [None, 3, ["cat"], {"a": 1}, True])
def test_text_must_be_a_string(value: object, tokenizer_folder: Path) -> None:
    ((field, reason),) = problems(Codec(text_contract(tokenizer_folder)), {"text": value})
    assert field == "text"
    assert reason.startswith("cannot be ")


def test_half_a_surrogate_pair_is_refused(tokenizer_folder: Path) -> None:
    assert "surrogate" in problems(Codec(text_contract(tokenizer_folder)), {"text": "cat \ud800"})[0][1]


def test_text_that_would_take_too_much_memory_is_refused(tokenizer_folder: Path) -> None:
    codec = Codec(text_contract(tokenizer_folder, max_length=4))
    assert codec.instance({"text": "cat " * (MAX_CHARACTERS // 4)})["input_ids"].shape == (4,)
    assert problems(codec, {"text": "x" * (MAX_CHARACTERS + 1)}) == [
        ("text", f"the text has {MAX_CHARACTERS + 1} characters; at most {MAX_CHARACTERS} are read")
    ]


def test_missing_or_broken_tokenizer_file(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="does not exist"):
        Codec(text_contract(tmp_path)).instance({"text": "cat"})
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ContractError, match="tokenizer"):
        Codec(text_contract(tmp_path)).instance({"text": "cat"})


def test_missing_tokenizers_is_named_at_use(tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=r"shipworthy\[text\]"):
        Codec(text_contract(tokenizer_folder)).instance({"text": "cat"})


def test_record_fills_the_input_in_the_order_of_the_fields() -> None:
    codec = Codec(record_contract())
    array = codec.instance({"flower": {"age": 3, "width": 2.5, "length": 1}})["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [1.0, 2.5, 3.0]
    assert codec.instance({"x": [1, 2.5, 3]})["x"].tolist() == [1.0, 2.5, 3.0]


def test_every_fault_of_a_record_is_named() -> None:
    assert problems(Codec(record_contract()), {"flower": {"width": "wide", "age": True, "colour": 1}}) == [
        ("flower.length", "missing"),
        ("flower.colour", "unknown field"),
        ("flower.width", "expected a number, got a string"),
        ("flower.age", "expected a number, got true or false"),
    ]


def test_record_of_the_inputs_own_name() -> None:
    encode = {"x": {"kind": "record", "fields": ("a", "b")}}
    codec = Codec(contract({"x": {"dtype": "float32", "shape": ("batch", 2)}}, encode))
    assert codec.instance({"x": {"a": 1, "b": 2}})["x"].tolist() == [1, 2]
    assert codec.instance({"x": [1, 2]})["x"].tolist() == [1, 2]


def test_open_reads_the_tokenizer_and_names_one_that_is_none(tokenizer_folder: Path, tmp_path: Path) -> None:
    codec = Codec(text_contract(tokenizer_folder))
    codec.open()
    assert codec.notes == ()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ContractError, match="tokenizer"):
        Codec(text_contract(tmp_path)).open()


def test_open_notes_a_missing_library(tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    codec = Codec(text_contract(tokenizer_folder))
    codec.open()
    (note,) = codec.notes
    assert "'text' is not taken" in note and "shipworthy[text]" in note
