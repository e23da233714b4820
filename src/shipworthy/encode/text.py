"""Texts to token ids, attention mask and type ids, by the tokenizer file that was shipped with the model."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..contract import Array, TensorSpec, TextEncode
from ..errors import ContractError, MissingExtra
from .faults import FieldError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_CHARACTERS = 1_000_000
"""A longer text is refused: its tokens take a hundred times its memory before they are cut."""

_PADDINGS = ("[PAD]", "<pad>", "<|pad|>")


class TextCodec:
    """Turns a text into the inputs that it feeds, each of shape [tokens].

    Shorter texts are padded where the inputs have a fixed length; where it is dynamic, nothing is padded."""

    def __init__(self, name: str, encode: TextEncode, specs: Mapping[str, TensorSpec], file: Path) -> None:
        self.feeds = encode.feeds
        self._name, self._encode, self._specs, self._file = name, encode, specs, file
        if len(encode.feeds) > 3:
            raise ContractError(
                f"encode.{name}.feeds", "has more than token ids, attention mask and type ids", "name three at most"
            )
        for fed in encode.feeds:
            if len(specs[fed].shape) != 2:
                raise ContractError(
                    f"encode.{name}.feeds", f"{fed!r} is {specs[fed].show()}", "give it the shape [batch, tokens]"
                )
        self._lock = threading.Lock()
        self._tokenizer: Tokenizer | None = None

    def takes(self, value: object) -> bool:
        return isinstance(value, str)

    def encode(self, value: Any) -> dict[str, Array]:
        """Arrays by input name. MissingExtra without `tokenizers`, ContractError where its file is unreadable."""
        tokenizer = self.open()
        if len(value) > MAX_CHARACTERS:
            raise FieldError(f"the text has {len(value)} characters; at most {MAX_CHARACTERS} are read")
        try:
            encoding = tokenizer.encode(value)
        except (TypeError, UnicodeEncodeError) as error:
            raise FieldError("the text has half of a surrogate pair, which is no Unicode character") from error
        columns = (encoding.ids, encoding.attention_mask, encoding.type_ids)
        return {name: self._column(name, column) for name, column in zip(self.feeds, columns, strict=False)}

    def _column(self, name: str, numbers: list[int]) -> Array:
        spec = self._specs[name]
        exact = np.array(numbers, dtype=np.int64)
        column: Array = exact.astype(spec.numpy)
        if spec.misfit(column, instance=True) is not None:
            raise FieldError(f"the text has {len(numbers)} tokens; the model takes {spec.shape[1]}")
        if not np.array_equal(column, exact):
            raise FieldError(f"the text has a token id that {spec.dtype} does not hold")
        return column

    def open(self) -> Tokenizer:
        """Read the tokenizer file, unless that is done. Errors as those of `encode`."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._load()
            return self._tokenizer

    def _load(self) -> Tokenizer:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtra("text input", "tokenizers", "text") from error
        if not self._file.is_file():
            raise ContractError(
                f"encode.{self._name}.tokenizer", f"{self._file} does not exist", "write it with Tokenizer.save"
            )
        try:
            tokenizer = Tokenizer.from_file(str(self._file))
        # The library raises a bare Exception for any file that it cannot read.
        except Exception as error:
            raise ContractError(
                f"encode.{self._name}.tokenizer", f"{self._file}: {error}", "write it with Tokenizer.save"
            ) from error
        self._fit(tokenizer)
        return tokenizer

    def _fit(self, tokenizer: Tokenizer) -> None:
        """Truncate as the contract says; pad to a fixed length, and otherwise not at all."""
        length = self._specs[self.feeds[0]].shape[1]
        fixed = length if isinstance(length, int) else None
        if self._encode.max_length is not None:
            tokenizer.enable_truncation(max_length=self._encode.max_length)
        if fixed is None:
            tokenizer.no_padding()
        elif tokenizer.padding is not None:
            tokenizer.enable_padding(**{**tokenizer.padding, "length": fixed})
        else:
            known = ((word, tokenizer.token_to_id(word)) for word in _PADDINGS)
            word, number = next(((word, number) for word, number in known if number is not None), (_PADDINGS[0], 0))
            tokenizer.enable_padding(length=fixed, pad_id=number, pad_token=word)
