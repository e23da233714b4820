"""Ids of predictions: no two are equal, in one process or several."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from shipworthy.predict.ids import new_id


def test_no_two_are_equal_whoever_asks() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [name for names in pool.map(lambda _: [new_id() for _ in range(2000)], range(4)) for name in names]
    assert len(set(made)) == len(made) == 8000
    assert all(len(name) == 32 and int(name, 16) > 0 for name in made)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_has_ids_of_its_own() -> None:
    before = new_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 32).decode()
    os.close(reader)
    os.close(writer)
    assert len(theirs) == 32
    assert new_id()[:16] == before[:16] != theirs[:16]
