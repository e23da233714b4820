"""The encoders of a package, opened before anything is served or written with them."""

from __future__ import annotations

from pathlib import Path

from ..contract import Contract
from ..encode import Codec
from ..errors import ContractError, PackageError


def open_codec(contract: Contract, root: Path, where: str) -> Codec:
    """The codec of a package whose members lie in `root`, opened; `where` is what a refusal names.

    Raises PackageError where its encoders cannot be used, as with a tokenizer file that is none."""
    try:
        codec = Codec(contract, root)
        codec.open()
    except ContractError as error:
        raise PackageError(where, f"{error.culprit}: {error.reason}", error.remedy) from error
    return codec
