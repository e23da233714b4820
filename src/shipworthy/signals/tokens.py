"""Signals of texts: how long, how many unknown tokens, how rare the words are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Array, Arrays
from ..errors import ContractError
from .signal import Signal
from .spread import Constants

MOST_TOKENS = 65_536
"""Whose frequency is kept, the most frequent ones."""
_PADDINGS = ("[PAD]", "<pad>", "<|pad|>")
_NOBODY = -1
"""No token has this number."""


@dataclass(frozen=True, slots=True)
class TokenInput:
    """Where tokens are found."""

    name: str
    """Of the signals: that of the text, or of the input."""
    ids: str
    mask: str | None
    """An input that is 1 where a token is, and 0 where padding is."""
    pad: float | None
    """What the contract says is padding."""
    tokenizer: str | None
    """Its file, relative to the contract."""


class Tokens:
    """Length, unknown tokens and mean rarity (-ln of the frequency in the calibration data) of each text."""

    def __init__(self, text: TokenInput, constants: Constants) -> None:
        self._text = text
        key = f"tokens/{text.name}"
        self._ids, self._counts = constants.get(f"{key}/ids"), constants.get(f"{key}/counts")
        special = constants.get(f"{key}/special")
        self._unknown, padding = (_NOBODY, _NOBODY) if special is None else (int(special[0]), int(special[1]))
        self._padding = _padding(text, padding)
        if self._ids is not None and self._counts is not None:
            if self._ids.ndim != 1 or self._ids.shape != self._counts.shape:
                raise ValueError(f"{key} has tokens {list(self._ids.shape)} and counts {list(self._counts.shape)}")
            total = self._counts.sum() + len(self._counts) + 1
            self._rarity = -np.log(np.append(self._counts + 1.0, 1.0) / total)
        self.signals = tuple(self._signals())

    def _signals(self) -> list[Signal]:
        name = self._text.name
        found = [Signal(f"{name}.length", "number", "inputs", f"length of {name}", "tokens")]
        if self._ids is None or self._counts is None:
            return found
        if self._unknown != _NOBODY:
            found.append(Signal(f"{name}.unknown", "number", "inputs", f"share of unknown tokens in {name}"))
        else:
            title = f"share of tokens in {name} that the calibration data does not have"
            found.append(Signal(f"{name}.unseen", "number", "inputs", title))
        found.append(Signal(f"{name}.rarity", "number", "inputs", f"mean rarity of the tokens of {name}", "nats"))
        return found

    def of(self, feeds: Arrays, outputs: Arrays) -> Array:
        ids = feeds[self._text.ids]
        valid = _valid(self._text, self._padding, feeds)
        length = np.add.reduce(valid, axis=1, dtype=np.float64)
        if self._ids is None or self._counts is None:
            return np.stack([length], axis=1)
        place = np.searchsorted(self._ids, ids)
        seen = np.append(self._ids, _NOBODY)[place] == ids
        strange = ids == self._unknown if self._unknown != _NOBODY else ~seen
        rarity = self._rarity[np.where(seen, place, len(self._ids))]
        sums = [np.add.reduce(np.where(valid, table, 0.0), axis=1) for table in (strange, rarity)]
        return np.stack([length, *(total / length for total in sums)], axis=1)


class TokenFit:
    """The constants of `Tokens`."""

    def __init__(self, text: TokenInput, root: Path) -> None:
        self._text = text
        self._special = (_NOBODY, _NOBODY)
        if text.tokenizer is not None:
            self._special = special_tokens(root / text.tokenizer, f"encode.{text.name}.tokenizer")
        self._padding = _padding(text, self._special[1])
        self._ids: Array = np.zeros(0, np.int64)
        self._counts: Array = np.zeros(0, np.int64)

    def see(self, feeds: Arrays, outputs: Arrays) -> None:
        valid = _valid(self._text, self._padding, feeds)
        ids, counts = np.unique(feeds[self._text.ids][valid], return_counts=True)
        merged = np.union1d(self._ids, ids).astype(np.int64)
        total = np.zeros(len(merged), np.int64)
        total[np.searchsorted(merged, self._ids)] += self._counts
        total[np.searchsorted(merged, ids)] += counts
        self._ids, self._counts = merged, total

    def constants(self) -> dict[str, Array]:
        most = np.sort(np.argsort(-self._counts, kind="stable")[:MOST_TOKENS])
        key = f"tokens/{self._text.name}"
        return {
            f"{key}/ids": self._ids[most],
            f"{key}/counts": self._counts[most],
            f"{key}/special": np.array(self._special, np.int64),
        }


def _padding(text: TokenInput, found: int) -> int:
    """The contract's word goes before the tokenizer's."""
    return found if text.pad is None else int(text.pad)


def _valid(text: TokenInput, padding: int, feeds: Arrays) -> Array:
    """Where a token is, bool [n, tokens]."""
    ids = feeds[text.ids]
    valid: Array = np.ones(ids.shape, bool)
    if text.mask is not None:
        valid = feeds[text.mask] != 0
    elif padding != _NOBODY:
        valid = ids != padding
    return valid


def special_tokens(file: Path, culprit: str) -> tuple[int, int]:
    """The numbers of the unknown token and of padding in a tokenizer.json; -1 for what it does not have.

    The file is read as JSON: the library that runs it is an extra. Raises ContractError where it cannot be read."""
    try:
        content: Any = json.loads(file.read_bytes())
        model = content["model"]
        vocabulary = model.get("vocab") or {}
        names = {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
        if isinstance(vocabulary, dict):
            names = {**vocabulary, **names}
            unknown = names.get(model.get("unk_token"), _NOBODY)
        else:
            unknown = model.get("unk_id")
        padding = content.get("padding") or {}
        known = (names[word] for word in _PADDINGS if word in names)
        return _number(unknown), _number(padding.get("pad_id", next(known, _NOBODY)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "write it with Tokenizer.save"
        raise ContractError(culprit, f"{file} is no tokenizer: {type(error).__name__}: {error}", remedy) from error


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else _NOBODY
