"""The stored package and its perceptron, for predictors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

STORED = Path(__file__).parent.parent / "package" / "stored"
sys.path.insert(0, str(STORED))


@pytest.fixture(scope="session")
def stored() -> Path:
    """The checked-in package of format 1, as a folder."""
    return STORED / "format1"


@pytest.fixture(scope="session")
def stored_ship() -> Path:
    """The checked-in package of format 1, as one file."""
    return STORED / "format1.ship"
