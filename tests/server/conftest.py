"""What the tests of the server share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def stored() -> Path:
    """The checked-in package of format 1: iris, 4 features, 3 classes."""
    return Path(__file__).parent.parent / "package" / "stored" / "format1.ship"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
