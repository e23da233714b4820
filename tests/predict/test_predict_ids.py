"""Ids of predictions: no two are equal, in one process or several."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from shipworthy.predict.ids import new_id

FORKED = """
import os
from shipworthy.predict.ids import new_id

os.write(1, new_id().encode() + b" ")
child = os.fork()
os.write(1, new_id().encode() + b" ")
if child:
    os.waitpid(child, 0)
"""


def test_no_two_are_equal_whoever_asks() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [name for names in pool.map(lambda _: [new_id() for _ in range(2000)], range(4)) for name in names]
    assert len(set(made)) == len(made) == 8000
    assert all(len(name) == 32 and int(name, 16) > 0 for name in made)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_has_ids_of_its_own() -> None:
    """In a process of its own: libraries that a test process has loaded do not survive a fork."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60)
    before, *after = done.stdout.split()
    assert len({before, *after}) == 3
    assert len({name[:16] for name in after}) == 2 and before[:16] in {name[:16] for name in after}
