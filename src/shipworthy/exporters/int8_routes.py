"""Routes to a graph in int8: a graph and the module that it was made of compute on the same integers."""

from __future__ import annotations

from dataclasses import replace

from ..errors import ExportError
from ..evidence import Finding
from .agreement import gap_of_artifact
from .job import Job
from .routes import Route


def strictly(route: Route) -> Route:
    """The same route, which fails where its graph would be refused in fp32: only roundings may tip over."""

    def write(job: Job) -> tuple[Finding, ...]:
        findings = route.write(job)
        gap = gap_of_artifact(job.as_precision("fp32"))
        if gap is not None and gap.gross:
            reason = f"the graph departs from the module with fake quantization: {gap.reason}"
            raise ExportError(f"{job.engine} int8, {route.name}", reason, "use another engine, or the model in fp32")
        return findings

    return replace(route, write=write)
