"""Writes the stored package of the current format: `python tests/package/stored/make.py`.

It is run once for each format, by hand; what it wrote is checked in and never written again, because readers of today
must read packages of then."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mlp

from shipworthy.package import FORMAT, write_ship

if __name__ == "__main__":
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as work:
        folder = mlp.write(here / f"format{FORMAT}", Path(work))
    write_ship(folder, here / f"format{FORMAT}.ship")
