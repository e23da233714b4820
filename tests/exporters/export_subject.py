"""A model under export, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.contract import Array, Contract
from shipworthy.exporters import Exported, export
from shipworthy.model import LoadedModel, run_eager
from shipworthy.runtime import open_runner


@dataclass(frozen=True)
class Subject:
    """A model with its contract and seeded probes."""

    model: LoadedModel
    contract: Contract
    probes: tuple[dict[str, Array], ...]
    directory: Path

    def export(self, engine: str, precision: str = "fp32", **target: Any) -> Exported:
        contract = self.contract
        if target:
            contract = contract.model_copy(update={"target": contract.target.model_copy(update=target)})
        return export(self.model, contract, engine, precision, self.directory / f"{engine}-{precision}", self.probes)

    def eager(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return run_eager(self.model, self.contract.signature, feeds)

    def assert_like_eager(self, exported: Exported, *cases: Mapping[str, Array], tolerance: float = 1e-4) -> None:
        runner = open_runner(exported.artifact)
        for feeds in cases or self.probes:
            answer = runner.run(feeds)
            for name, expected in self.eager(feeds).items():
                np.testing.assert_allclose(answer[name], expected, rtol=tolerance, atol=tolerance, err_msg=name)
        runner.close()

    def as_source(self, **changed: Any) -> Subject:
        return replace(self, model=replace(self.model, **changed))


Make = Callable[..., Subject]


def rules(exported: Exported) -> list[str]:
    return [finding.rule for finding in exported.findings]
