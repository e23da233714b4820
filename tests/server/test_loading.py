"""Packages are opened in a thread while the web server is imported."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from shipworthy.server import loading
from shipworthy.server.plan import Plan

assert "shipworthy.predict" not in sys.modules
loading._in_background = lambda work: print("shipworthy.predict" in sys.modules)
loading.Loading(Plan(packages=()))
"""


def test_what_both_threads_need_is_imported_before_there_are_two() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr
