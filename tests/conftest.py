"""Options and fixtures for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# Generated examples are the same in every run: a failure can be repeated, and a green run is no luck.
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run long proofs in full, not a twentieth of them")


@pytest.fixture(scope="session")
def effort(request: pytest.FixtureRequest) -> float:
    """Share of a long proof that is run: 1.0 with --full, else a twentieth."""
    return 1.0 if request.config.getoption("--full") else 0.05
