"""Any mixture of requests in batches gives each the outputs that it gets alone, in every engine.

Packages of the zoo are loaded as for serving. Requests of random rows and sizes are cut into parts, put together in
random order in buckets, padded (rows in any case, dynamic sizes where the contract says so), and run on two streams at
once, some of them withdrawn before that. Two things are shown for every part:

* bit-identical: in a batch of the same shape and at the same place, whatever the other rows and the padding are. No
  caller sees anything of another. A variant for which this does not hold is found when it is loaded, and not mixed.
* within the variant's golden tolerance: beside its own rows alone, in a batch of just their number and sizes. Engines
  choose other kernels for other shapes, which add in another order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from engine_zoo import ZOO, Ready

from shipworthy.contract import Array, Contract
from shipworthy.evidence import LatencyPoint
from shipworthy.model import run_eager
from shipworthy.package import Golden, GoldenCase, Requirements, Variant, write_package
from shipworthy.predict import Predictor, load
from shipworthy.runtime import ENGINES, Artifact, OperatingPoint, open_runner

sys.path.insert(0, str(Path(__file__).parent.parent / "package" / "stored"))
import mlp

Make = Callable[[str, str, str], Ready]

BUCKETS = (1, 2, 4, 8)
DEPENDENT = (("onnxruntime", "int8", "tokens"),)
"""Quantized with ranges that are taken over the whole batch at run time: such a variant is never mixed."""
PADDED = {"tokens": 0}
"""Specimens whose dynamic sizes may be padded, and with what."""
WILD = np.float32([1e4, 1e30, np.inf, np.nan])
"""Factors of a caller who sends what no model was made for."""
USUAL = [
    ("onnxruntime", "fp32", "tokens"),
    ("openvino", "fp32", "tokens"),
    ("torchscript", "fp32", "tokens"),
    ("openvino", "bf16", "conv"),
    ("openvino", "fp32", "two-towers"),
]
LONG = [
    (engine, "fp32", name)
    for engine in ("onnxruntime", "openvino", "torchscript")
    for name in ZOO
    if (engine, "fp32", name) not in USUAL
]
LONG += [("openvino", "bf16", "tokens"), ("torchscript", "bf16", "conv"), ("torchscript", "bf16", "tokens")]
LONG += [("aoti", "fp32", "tokens"), ("aoti", "bf16", "conv")]
LONG += [(engine, "int8", name) for engine in ("onnxruntime", "openvino") for name in ("mlp", "conv", "tokens")]
CASES = [pytest.param(case, id="-".join(case)) for case in USUAL]
CASES += [pytest.param(case, id="-".join(case), marks=pytest.mark.full) for case in LONG]


@dataclass(frozen=True)
class Part:
    """Rows of one request that go into one batch."""

    feeds: dict[str, Array]
    wild: bool
    """Of a caller who sends what no model was made for: huge numbers and NaN. Only its neighbours are looked at."""

    @property
    def rows(self) -> int:
        return len(next(iter(self.feeds.values())))


@dataclass(frozen=True)
class Slot:
    """A part at its place in a batch."""

    part: Part
    start: int


def artifact_of(case: tuple[str, str, str], ready: Make, folder: Path) -> tuple[Contract, Artifact]:
    engine, precision, name = case
    specimen = ZOO[name]
    if precision != "int8":
        made = ready(engine, precision, name)
        return made.contract, made.exported.artifact
    from shipworthy.compress.quantization.verb import quantize

    contract = specimen.contract()
    most = max((len(sizes) for sizes in specimen.sizes.values()), default=1) // 2
    quantized = quantize(
        specimen.model().module, contract, "dynamic" if name == "tokens" else "static", engine=engine,
        directory=folder / "int8", calibration=specimen.feeds(64, most),
    )  # fmt: skip
    return contract, quantized.artifact


def packed(case: tuple[str, str, str], ready: Make, folder: Path) -> Path:
    """A package of one variant whose tolerance is four times what it is away from eager on the golden cases."""
    engine, precision, name = case
    contract, artifact = artifact_of(case, ready, folder)
    if name in PADDED:
        padded = {key: spec.model_copy(update={"pad": float(PADDED[name])}) for key, spec in contract.inputs.items()}
        contract = contract.model_copy(update={"inputs": padded})
    inputs = [ZOO[name].feeds(rows, choice, seed=rows) for rows in (1, 3, 8) for choice in choices(name)]
    eager = [run_eager(ZOO[name].model(), contract.signature, feeds) for feeds in inputs]
    runner = open_runner(artifact)
    outputs = [runner.run(feeds) for feeds in inputs]
    runner.close()
    away = {
        key: max(
            float(np.abs(one[key].astype(np.float64) - other[key]).max())
            for one, other in zip(outputs, eager, strict=True)
        )
        for key in contract.outputs
    }
    variant = Variant(
        id=f"{engine}-{precision}",
        precision=artifact.precision,
        directory=f"variants/{engine}-{precision}",
        requires=Requirements(engine=engine, executes_code=ENGINES[engine].executes_code),
        points=(OperatingPoint(streams=2, threads=2, batch=BUCKETS[-1]),),
        latency=tuple(LatencyPoint(batch=size, p50_ms=1.0, p99_ms=1.0, runs=1) for size in BUCKETS),
        tolerance={key: max(1e-4, 4 * delta) for key, delta in away.items()},
    )
    return write_package(
        folder / "package",
        contract=contract,
        variants=[(variant, artifact.directory)],
        golden=Golden(tuple(map(GoldenCase, inputs, eager))),
        record=mlp.record(),
        report_html="",
        card="",
    )


def choices(name: str) -> range:
    return range(max((len(sizes) for sizes in ZOO[name].sizes.values()), default=1))


@pytest.fixture(params=CASES, scope="module")
def served(
    request: pytest.FixtureRequest, ready: Make, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Predictor]]:
    engine, _, name = request.param
    with load(packed(request.param, ready, tmp_path_factory.mktemp(engine)), allow_code=True) as predictor:
        assert predictor.mixes == (request.param not in DEPENDENT)
        assert (predictor.padding is not None) == (predictor.mixes and name in PADDED)
        yield name, predictor


def requests(name: str, predictor: Predictor, random: np.random.Generator, count: int) -> list[dict[str, Array]]:
    """Feeds of 1 to 11 rows, of a few sizes of every dynamic dimension."""
    found = []
    for _ in range(count):
        sizes = {dim.name: int(random.integers(dim.min, 25)) for dim in predictor.contract.signature.dynamic()}
        sizes["batch"] = int(random.choice([1, 1, 1, 2, 3, 5, 11]))
        feeds: dict[str, Array] = {}
        for key, spec in predictor.contract.inputs.items():
            shape = [size if isinstance(size, int) else sizes[size.name] for size in spec.shape]
            if key == "attention_mask":
                feeds[key] = np.ones(shape, spec.numpy)
                feeds[key][:, shape[1] // 2 + 1 :] = random.integers(0, 2)
            elif spec.numpy.kind == "f":
                feeds[key] = random.standard_normal(shape).astype(spec.numpy)
            else:
                feeds[key] = random.integers(0, 50, shape, dtype=spec.numpy)
        found.append(feeds)
    return found


def parts_of(feeds: dict[str, Array], random: np.random.Generator) -> list[Part]:
    rows = len(next(iter(feeds.values())))
    floats = [name for name, array in feeds.items() if array.dtype.kind == "f"]
    wild = bool(floats) and random.random() < 0.15
    if wild:
        feeds = feeds | {name: feeds[name] * random.choice(WILD) for name in floats}
    return [
        Part({name: array[start : start + BUCKETS[-1]] for name, array in feeds.items()}, wild)
        for start in range(0, rows, BUCKETS[-1])
    ]


def mixtures(predictor: Predictor, parts: Sequence[Part], random: np.random.Generator) -> Iterator[list[Slot]]:
    """Batches of parts that may share one, in random order and of random sizes."""
    groups: dict[object, list[Part]] = {}
    for place in random.permutation(len(parts)):
        groups.setdefault(key_of(predictor, parts[place]), []).append(parts[place])
    for group in groups.values():
        batch: list[Slot] = []
        most = int(random.integers(1, BUCKETS[-1] + 1))
        for part in group:
            rows = sum(slot.part.rows for slot in batch)
            if batch and rows + part.rows > most:
                yield batch
                batch, rows = [], 0
                most = int(random.integers(1, BUCKETS[-1] + 1))
            batch.append(Slot(part, rows))
        yield batch


def key_of(predictor: Predictor, part: Part) -> object:
    if predictor.padding is not None:
        return predictor.padding.padded_key(part.feeds)
    return tuple(array.shape[1:] for array in part.feeds.values())


def joined(predictor: Predictor, parts: Sequence[Part], bucket: int) -> dict[str, Array]:
    if predictor.padding is not None:
        return predictor.padding.pad([part.feeds for part in parts], bucket)
    rows = {name: np.concatenate([part.feeds[name] for part in parts]) for name in parts[0].feeds}
    return {
        name: np.concatenate([array, np.repeat(array[-1:], bucket - len(array), 0)]) for name, array in rows.items()
    }


def run(predictor: Predictor, batch: Sequence[Slot]) -> list[dict[str, Array]]:
    """The outputs of each part of a batch."""
    bucket = predictor.bucket(sum(slot.part.rows for slot in batch))
    return ran(predictor, joined(predictor, [slot.part for slot in batch], bucket), batch)


def ran(predictor: Predictor, feeds: dict[str, Array], batch: Sequence[Slot]) -> list[dict[str, Array]]:
    outputs = predictor.run(feeds)
    found = []
    for slot in batch:
        mine = {name: array[slot.start : slot.start + slot.part.rows] for name, array in outputs.items()}
        found.append(mine if predictor.padding is None else predictor.padding.unpad(mine, slot.part.feeds))
    return found


def others(predictor: Predictor, batch: Sequence[Slot], slot: Slot) -> dict[str, Array]:
    """The same batch with one part at its place, and other rows around it: its own, over and over."""
    bucket = predictor.bucket(sum(one.part.rows for one in batch))
    feeds = {
        name: np.resize(np.roll(array, slot.start, axis=0), array.shape)
        for name, array in joined(predictor, [slot.part], bucket).items()
    }
    whole = joined(predictor, [one.part for one in batch], bucket)
    for name, array in feeds.items():
        array[slot.start : slot.start + slot.part.rows] = whole[name][slot.start : slot.start + slot.part.rows]
    return feeds


def test_a_mixture_gives_what_each_request_gets_alone(served: tuple[str, Predictor], effort: float) -> None:
    name, predictor = served
    random = np.random.default_rng(20)
    if not predictor.mixes:
        pytest.skip("rows of several requests never meet")
    tolerance = predictor.variant.tolerance
    with ThreadPoolExecutor(6) as pool:
        for _ in range(max(2, round(40 * effort))):
            asked = requests(name, predictor, random, 24)
            stays = [feeds for feeds in asked if random.random() < 0.9]
            batches = list(mixtures(predictor, [part for feeds in stays for part in parts_of(feeds, random)], random))
            together = list(pool.map(lambda batch: run(predictor, batch), batches))
            for batch, outputs in zip(batches, together, strict=True):
                for slot, mine in zip(batch, outputs, strict=True):
                    if slot.part.wild:
                        continue
                    (beside,) = ran(predictor, others(predictor, batch, slot), [slot])
                    alone = predictor.run(slot.part.feeds)
                    for key, array in mine.items():
                        assert array.dtype == alone[key].dtype and array.shape == alone[key].shape
                        assert array.tobytes() == beside[key].tobytes(), "other rows show"
                        away = np.abs(array.astype(np.float64) - alone[key]).max()
                        assert away <= tolerance[key], f"{key}: {away}"
