"""Signals of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from signal_cases import column, contract, names

from shipworthy.contract import Contract
from shipworthy.errors import ContractError
from shipworthy.signals import Signals, fit
from shipworthy.signals.tokens import special_tokens

Y = {"y": np.zeros((2, 3), np.float32)}
WORDS = {"model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3}, "unk_token": "[UNK]"}}


def text(folder: Path, content: dict[str, Any], *, mask: bool = False, pad: int | None = None) -> Contract:
    (folder / "tokenizer.json").write_text(json.dumps(content))
    feeds = ["input_ids", "mask"] if mask else ["input_ids"]
    inputs = {name: {"dtype": "int64", "shape": ["batch", "tokens"]} for name in feeds}
    if pad is not None:
        inputs["input_ids"]["pad"] = pad
    return Contract(
        name="text",
        inputs=inputs,
        outputs={"y": {"dtype": "float32", "shape": ["batch", 3]}},
        encode={"text": {"kind": "text", "tokenizer": "tokenizer.json", "feeds": feeds}},
        root=folder,
    )


def test_length_unknown_and_rarity(tmp_path: Path) -> None:
    what = text(tmp_path, WORDS)
    seen = {"input_ids": np.array([[2, 2, 2, 3], [2, 2, 3, 0]])}
    constants = fit(what, [(seen, Y)])
    signals = Signals(what, constants)
    assert names(signals)[-3:] == ["text.length", "text.unknown", "text.rarity"]
    feeds = {"input_ids": np.array([[2, 3, 0, 0], [1, 1, 2, 9]])}
    assert column(signals, feeds, Y, "text.length").tolist() == [2, 4]
    assert column(signals, feeds, Y, "text.unknown").tolist() == [0, 0.5]
    # 7 tokens of 2 kinds: what is counted is one more than was seen, of 7 + 2 + 1 in all.
    common, other, never = (-np.log(count / 10) for count in (6, 3, 1))
    np.testing.assert_allclose(
        column(signals, feeds, Y, "text.rarity"), [(common + other) / 2, (3 * never + common) / 4]
    )


def test_a_mask_says_where_tokens_are(tmp_path: Path) -> None:
    what = text(tmp_path, WORDS, mask=True)
    feeds = {"input_ids": np.array([[2, 0, 3, 3], [2, 2, 2, 2]]), "mask": np.array([[1, 1, 1, 0], [0, 0, 0, 0]])}
    signals = Signals(what, fit(what, [(feeds, Y)]))
    assert column(signals, feeds, Y, "text.length").tolist() == [3, 0]
    # No token, no share.
    assert np.isnan(column(signals, feeds, Y, "text.unknown")).tolist() == [False, True]


def test_the_contracts_padding_goes_before_the_tokenizers(tmp_path: Path) -> None:
    what = text(tmp_path, WORDS, pad=3)
    signals = Signals(what, fit(what, [({"input_ids": np.array([[2, 3], [2, 2]])}, Y)]))
    assert column(signals, {"input_ids": np.array([[2, 3], [3, 3]])}, Y, "text.length").tolist() == [1, 0]


def test_without_an_unknown_token_what_was_never_seen_counts(tmp_path: Path) -> None:
    what = text(tmp_path, {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})
    signals = Signals(what, fit(what, [({"input_ids": np.array([[0, 5], [7, 5]])}, Y)]))
    assert "text.unseen" in names(signals)
    assert column(signals, {"input_ids": np.array([[0, 6], [5, 7]])}, Y, "text.unseen").tolist() == [0.5, 0]


def test_sequences_of_integers_are_texts_too() -> None:
    what = contract(inputs={"ids": ["int32", "batch", "steps"], "fixed": ["int64", "batch", 100]})
    feeds = {"ids": np.array([[1, 2], [3, 3]], np.int32), "fixed": np.full((2, 100), 2**40)}
    signals = Signals(what, fit(what, [(feeds, Y)]))
    found = [name for name in names(signals) if not name.startswith("y")]
    assert found == [f"{name}.{key}" for name in ("ids", "fixed") for key in ("length", "unseen", "rarity")]
    assert np.isfinite(signals.of(feeds, Y)).all()


def test_chunks_of_several_lengths_add_up() -> None:
    what = contract(inputs={"ids": ["int64", "batch", "steps"]})
    first, second = np.array([[1, 2, 2]]), np.array([[2, 9], [9, 1]])
    parts = fit(what, [({"ids": first}, {}), ({"ids": second}, {})])
    assert parts["tokens/ids/ids"].tolist() == [1, 2, 9]
    assert parts["tokens/ids/counts"].tolist() == [2, 3, 2]


@pytest.mark.parametrize(
    ("content", "unknown", "padding"),
    [
        (WORDS, 1, 0),
        ({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0]], "unk_id": 0}}, 0, -1),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "unk_token": None}}, -1, -1),
        ({**WORDS, "padding": {"pad_id": 3}}, 1, 3),
        ({"model": {"vocab": {}, "unk_token": "<u>"}, "added_tokens": [{"id": 7, "content": "<u>"}]}, 7, -1),
    ],
    ids=["words", "unigram", "bytes", "padding", "added"],
)
def test_special_tokens(tmp_path: Path, content: dict[str, Any], unknown: int, padding: int) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content))
    assert special_tokens(file, "here") == (unknown, padding)


@pytest.mark.parametrize("content", ["", "[]", '{"model": 3}', "{}"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(ContractError, match="is no tokenizer"):
        special_tokens(file, "encode.text.tokenizer")


def test_the_numbers_are_those_of_the_library(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers.models import WordLevel

    made = tokenizers.Tokenizer(WordLevel({"x": 0, "[UNK]": 4, "<pad>": 5}, unk_token="[UNK]"))
    made.save(str(tmp_path / "tokenizer.json"))
    assert special_tokens(tmp_path / "tokenizer.json", "here") == (4, 5)
