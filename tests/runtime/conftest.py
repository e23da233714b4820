"""Artifacts of the zoo, exported once per session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engine_zoo import ZOO, Ready

from shipworthy.contract.spec import Precision
from shipworthy.exporters import export


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Precision, str], Ready]:
    made: dict[tuple[str, str, str], Ready] = {}

    def make(engine: str, precision: Precision, name: str) -> Ready:
        key = (engine, precision, name)
        if key not in made:
            specimen = ZOO[name]
            contract = specimen.contract()
            directory = tmp_path_factory.mktemp("-".join(key))
            exported = export(specimen.model(), contract, engine, precision, directory, specimen.probes())
            made[key] = Ready(specimen, contract, exported)
        return made[key]

    return make
