"""What a build gives: the record that shows itself, and the best candidate that can be packed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract import Contract
from ..data import read_cases
from ..evidence import BuildRecord
from ..package import Golden, GoldenCase, Requirements, Variant, write_package, write_ship
from ..runtime import ENGINES, OperatingPoint, engine_version

if TYPE_CHECKING:
    from rich.table import Table

    from .tried import Tried

SHIP = ".ship"
_POINTS = 4
"""Operating points that a variant brings along, the best first."""


@dataclass(frozen=True, slots=True)
class Best:
    """The chosen candidate, with the other finalists that stand, ready to be packed."""

    contract: Contract
    record: BuildRecord
    probes: Path
    """Cases that become the golden ones."""
    answers: Path
    """Eager's, to the same cases."""
    finalists: tuple[Tried, ...]
    """The chosen one first."""
    references: Mapping[str, Path] = field(default_factory=dict)
    """What live data is compared with, by the ids of the variants."""

    @property
    def id(self) -> str:
        return self.finalists[0].candidate.id

    def save(self, path: str | Path, *, replace: bool = True) -> Path:
        """Write the package: a folder, or one file where `path` ends in .ship. A package that stands there gives way.

        Raises PackageError where the place is taken by anything else."""
        path = Path(path)
        if path.suffix != SHIP:
            return self._write(path, replace=replace)
        with tempfile.TemporaryDirectory(prefix="shipworthy-") as folder:
            return write_ship(self._write(Path(folder) / "package", replace=False), path)

    def golden(self) -> Golden:
        pairs = zip(read_cases(self.probes), read_cases(self.answers), strict=True)
        return Golden(tuple(GoldenCase(inputs, outputs) for (_, inputs), (_, outputs) in pairs))

    def _write(self, directory: Path, *, replace: bool) -> Path:
        from .report import render_card, render_html

        return write_package(
            directory,
            contract=self.contract,
            variants=[(_variant(tried), _folder(tried)) for tried in self.finalists],
            golden=self.golden(),
            record=self.record,
            report_html=render_html(self.record, self.contract),
            card=render_card(self.record, self.contract),
            references=self.references,
            replace=replace,
        )


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build found. In a notebook it shows itself."""

    record: BuildRecord
    contract: Contract
    """With the outputs that were found."""
    best: Best | None
    """None where no candidate meets the contract; the record has the reasons."""

    def table(self) -> Table:
        """For a terminal: `rich.print(report.table())`."""
        from .report import render_table

        return render_table(self.record)

    def html(self) -> str:
        """The whole report as one page that needs no network."""
        from .report import render_html

        return render_html(self.record, self.contract)

    def json(self) -> str:
        return self.record.model_dump_json(indent=2)

    def _repr_html_(self) -> str:
        """In a notebook the page stands in a frame, so that its styles do not leak into the notebook's."""
        import html

        page = html.escape(self.html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:900px;border:0"></iframe>'


def _folder(tried: Tried) -> Path:
    assert tried.exported.reply is not None, "a finalist has been exported"
    return tried.exported.reply.artifact.directory


def _variant(tried: Tried) -> Variant:
    reply, candidate = tried.exported.reply, tried.candidate
    assert reply is not None, "a finalist has been exported"
    return Variant(
        id=candidate.id,
        precision=candidate.precision,
        directory=f"variants/{candidate.id}",
        requires=Requirements(
            engine=candidate.engine,
            engine_version=engine_version(candidate.engine),
            arch=reply.arch,
            isa=reply.isa,
            device=reply.artifact.device,
            executes_code=ENGINES[candidate.engine].executes_code,
        ),
        points=_points(tried),
        latency=tried.pace.latency,
        tolerance=tried.quality.tolerance,
    )


def _points(tried: Tried) -> tuple[OperatingPoint, ...]:
    """The best, then the fastest of the others."""
    fastest = sorted(tried.pace.throughput, key=lambda point: -point.items_per_s)
    others = [point.point for point in fastest if point.point != tried.pace.best]
    best = () if tried.pace.best is None else (tried.pace.best,)
    return (*best, *others[: _POINTS - 1])
