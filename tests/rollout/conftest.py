"""A PostgreSQL server where the host has one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))

import postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """A server of its own; each test makes a database in it."""
    missing = postgres_server.missing()
    if missing is not None:
        pytest.skip(missing)
    with postgres_server.running() as server:
        yield server
