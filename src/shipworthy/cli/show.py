"""How results look on the terminal; everything here only prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from .tables import print_table, table, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..contract import TensorSpec
    from ..doctor import Examination
    from ..evidence import BuildRecord
    from ..package import Manifest, Package, VerifyReport
    from ..preflight import CheckReport
    from ..runtime import Description

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green", "missing": "yellow"}


def print_findings(report: CheckReport) -> None:
    console = Console()
    if not report.findings:
        console.print(Text("nothing to say against it", style="green"))
    for finding in report.findings:
        head = Text.assemble(
            (finding.severity, _COLOURS[finding.severity]), f" {finding.rule} ", (finding.where, "bold")
        )
        console.print(head)
        console.print(Text(f"  {finding.why}"))
        console.print(Text(f"  remedy: {finding.remedy}", style="dim"))
    for skipped in report.skipped:
        console.print(Text(f"not checked: {skipped}", style="dim"))


def print_tensors(kind: str, specs: Mapping[str, TensorSpec]) -> None:
    made = table(kind, "name", "dtype", "shape")
    for name, spec in specs.items():
        made.add_row(name, spec.dtype, Text(f"[{', '.join(map(str, spec.shape))}]"))
    print_table(made)


def print_description(description: Description, *, graph: bool, as_json: bool) -> None:
    signature = description.signature
    if as_json:
        listed = {} if signature is None else signature.model_dump(mode="json")
        out = {"format": description.format, **listed, "notes": description.notes}
        typer.echo(json.dumps({**out, "graph": description.text} if graph else out, indent=2))
        return
    typer.echo(description.format)
    for note in description.notes:
        typer.echo(f"note: {note}")
    if signature is None:
        typer.echo("its inputs and outputs are not recorded in the file")
    else:
        print_tensors("inputs", signature.inputs)
        print_tensors("outputs", signature.outputs)
    if graph:
        typer.echo(description.text)


def print_package(package: Package, *, graph: bool, as_json: bool) -> None:
    manifest = package.manifest
    if as_json:
        out = manifest.model_dump(mode="json", exclude={"files"})
        typer.echo(json.dumps({**out, "graphs": _graphs(package)} if graph else out, indent=2))
        return
    typer.echo(visible(f"{manifest.name}: package format {manifest.format}, made {manifest.created}"))
    print_tensors("inputs", manifest.signature.inputs)
    print_tensors("outputs", manifest.signature.outputs)
    print_variants(manifest)
    print_evidence(package.record)
    if graph:
        for name, text in _graphs(package).items():
            typer.echo(f"\n# {name}\n{text}")


def print_variants(manifest: Manifest) -> None:
    made = table(
        "variants, the first that a host can run is served", "id", "engine", "precision", "needs", "best point"
    )
    for variant in manifest.variants:
        needs = ["--allow-code"] if variant.requires.executes_code else []
        needs += [variant.requires.arch] if variant.requires.arch else []
        best = variant.points[0] if variant.points else None
        point = f"{best.streams} streams, {best.threads} threads, batch {best.batch}" if best else ""
        version = f"{variant.requires.engine} {variant.requires.engine_version or ''}".strip()
        made.add_row(variant.id, version, variant.precision, ", ".join(needs), point)
    print_table(made)


def print_evidence(record: BuildRecord) -> None:
    made = table("evidence, measured at the build", "candidate", "verdict", "faster than", "drop of the metric", "MB")
    for result in record.results:
        evidence = result.evidence
        speed = ", ".join(f"{one.against} {one.ratio:.2f}×" for one in evidence.speed[:1])
        drop = ", ".join(f"{one.name} {one.drop:+.4f} ({one.split})" for one in evidence.metrics[-1:])
        size = "" if evidence.size_mb is None else f"{evidence.size_mb:.3f}"
        made.add_row(result.candidate.id, result.verdict, speed, drop, size)
    print_table(made)
    if record.why:
        typer.echo(visible(record.why))


def _graphs(package: Package) -> dict[str, str]:
    """The graph of each variant as text; of an engine that this version does not know, only that."""
    from ..runtime import ENGINES, describe

    texts = {}
    for variant in package.manifest.variants:
        engine = ENGINES.get(variant.requires.engine)
        if engine is None:
            texts[variant.id] = f"this version does not know the engine {variant.requires.engine!r}"
        else:
            texts[variant.id] = describe(package.root / variant.directory / engine.entry).text
    return texts


def print_verification(report: VerifyReport, *, as_json: bool) -> None:
    if as_json:
        typer.echo(report.json())
        return
    console = Console()
    console.print(Text.assemble(("whole: ", "green"), f"{report.name}, {report.files} files, every hash agrees"))
    for row in report.variants:
        state, style = ("replayed", "green") if row.replayed else ("not run", "yellow")
        console.print(Text.assemble((f"{state}: ", style), (row.id, "bold"), f" {row.detail}"))


def print_examination(examination: Examination) -> None:
    console = Console()
    host = examination.host
    console.print(Text(f"{host.cpu}, {host.cores} cores, {host.arch}, {host.os}, Python {host.python}"))
    made = table("", "what", "", "", "detail")
    for line in examination.lines:
        made.add_row(line.kind, line.name, Text(line.state, style=_COLOURS[line.state]), Text(line.detail))
    print_table(made)
