"""The examples, copied and trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from examples_project import Example


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Example]:
    """Copy an example by its name, and train it."""
    return lambda name: Example.trained(name, tmp_path_factory.mktemp("examples") / name)
