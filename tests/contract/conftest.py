"""Files with contracts in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shipworthy.contract import read_contract
from shipworthy.errors import ContractError


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """A file of this text."""

    def make(text: str | bytes) -> Path:
        path = tmp_path / "shipworthy.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


@pytest.fixture
def refused(write: Callable[[str | bytes], Path]) -> Callable[[str | bytes], ContractError]:
    """The error that a file of this text is refused with."""

    def read(text: str | bytes) -> ContractError:
        with pytest.raises(ContractError) as caught:
            read_contract(write(text))
        return caught.value

    return read
