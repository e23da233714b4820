"""Fixtures of this room."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from quantize_subjects import Digits, one_thread, trained_digits

from shipworthy.data import Dataset


@pytest.fixture(scope="session")
def digits() -> Callable[[], tuple[Digits, Dataset, Dataset]]:
    """A copy of a net trained on the digits, what it was trained on, and what it was not."""
    with one_thread():
        net, fitted, held = trained_digits()
    return lambda: (copy.deepcopy(net), fitted, held)


@pytest.fixture(scope="module")
def single_threaded() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")
