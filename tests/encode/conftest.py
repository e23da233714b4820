"""Images and a tokenizer to encode with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def colours() -> np.ndarray:
    """[4, 6, 3] of uint8, every value different."""
    return np.random.default_rng(7).permutation(256)[:72].astype(np.uint8).reshape(4, 6, 3)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tokenizer.json: words by white space, lower case; [UNK] 0, [PAD] 1, the 2, cat 3, sat 4."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {"[UNK]": 0, "[PAD]": 1, "the": 2, "cat": 3, "sat": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
