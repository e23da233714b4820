"""How much of the metric a graph loses against the model that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..contract import BATCH, Array, Arrays, Contract
from ..data import Chunk, Dataset
from ..model import LoadedModel, run_eager
from ..quality import compare, gather, join, metric_for, misfit
from ..runtime import Artifact, OperatingPoint, open_runner
from .quantization.calibration import filled

_ROWS = 64
"""Samples per run."""


def drop_on(model: LoadedModel, contract: Contract, data: Dataset) -> Callable[[Artifact], float] | None:
    """A function that opens an artifact, runs the data, and gives the drop of the contract's metric (absolute, against
    the model in eager fp32, which is run once). None where there is no metric, or no targets for it.

    A graph whose answers cannot be compared (NaN, another shape) has an infinite drop."""
    metric = metric_for(contract)
    if metric is None or not (data.labelled or metric.against_eager):
        return None
    signature = contract.signature
    batch_dim = next(dim for dim in signature.dynamic() if dim.name == BATCH)
    least = max(1, batch_dim.min)
    batches = list(data.batches(max(least, min(_ROWS, batch_dim.max or _ROWS))))
    feeds = [filled(batch, least) for batch in batches]
    eager = [_cut(run_eager(model, signature, feed), batch, least) for feed, batch in zip(feeds, batches, strict=True)]
    targets = [batch.targets for batch in batches if batch.targets is not None]
    found = gather(eager)

    def drop(artifact: Artifact) -> float:
        runner = open_runner(artifact, OperatingPoint(threads=contract.target.threads))
        try:
            answers = [_cut(runner.run(feed), batch, least) for feed, batch in zip(feeds, batches, strict=True)]
        finally:
            runner.close()
        if any(_misfits(batches[0].inputs, eager, answers)):
            return float("inf")
        paired = compare(
            metric,
            "validation",
            join(targets) if targets else None,
            found,
            gather(answers),
            seed=contract.search.seed,
            subject=artifact.engine,
        )
        return paired.drop

    return drop


def _cut(answers: dict[str, Array], batch: Chunk, least: int) -> dict[str, Array]:
    """Without the rows that a batch was filled with."""
    return answers if len(batch) >= least else {name: array[: len(batch)] for name, array in answers.items()}


def _misfits(feeds: Arrays, eager: list[dict[str, Array]], answers: list[dict[str, Array]]) -> Iterator[str]:
    for expected, got in zip(eager, answers, strict=True):
        if (why := misfit(feeds, expected, got)) is not None:
            yield why
