"""Models of every kind are watched: a shift of what is asked or answered is seen, and the state goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shipworthy.contract import Array, Contract, parse_contract
from shipworthy.monitor import Monitor, MonitorOptions
from shipworthy.monitor.groups import Group
from shipworthy.monitor.record import text_of
from shipworthy.signals import fit, make_reference


def tensor(shape: list[Any], dtype: str = "float32", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": ["batch", *shape], **more}


KINDS: dict[str, dict[str, Any]] = {
    "record": {
        "inputs": {"x": tensor([3])},
        "encode": {"flower": {"kind": "record", "fields": ["a", "b", "c"]}},
        "outputs": {"y": tensor([1])},
        "task": {"kind": "regression"},
    },
    "multilabel": {
        "inputs": {"image": tensor([1, 8, 8])},
        "outputs": {"y": tensor([5], kind="logits")},
        "task": {"kind": "multilabel"},
    },
    "embedding": {
        "inputs": {"image": tensor([3, 8, 8], accept={"kind": "image", "size": [8, 8]})},
        "outputs": {"y": tensor([16])},
        "task": {"kind": "embedding"},
    },
    "tensors": {
        "inputs": {"a": tensor(["length"]), "b": tensor([], "int64")},
        "outputs": {"y": tensor(["length"]), "fixed": {"dtype": "float32", "shape": [2]}},
    },
    "tokens": {
        "inputs": {"ids": tensor(["tokens"], "int64")},
        "outputs": {"y": tensor([2], kind="probabilities")},
        "task": {"kind": "classification"},
    },
    "one score": {
        "inputs": {"x": tensor([4], "uint8")},
        "outputs": {"y": tensor([], kind="logits")},
        "task": {"kind": "classification"},
    },
}


def rows(of: Contract, count: int, random: np.random.Generator, *, shift: float = 0.0, size: int = 7) -> Group:
    def filled(spec: Any) -> Array:
        shape = (count, *(part if isinstance(part, int) else size for part in spec.shape[1:]))
        numbers = random.normal(shift, 1.0, shape)
        if spec.dtype.startswith("float"):
            return numbers.astype(spec.dtype)
        return np.clip(np.round(numbers * 9 + 60), 0, 120).astype(spec.dtype)

    feeds = {name: filled(spec) for name, spec in of.inputs.items()}
    outputs = {name: filled(spec) for name, spec in of.outputs.items() if spec.batched}
    return Group(feeds, outputs, np.arange(count))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_any_kind(kind: str) -> None:
    of = parse_contract({"name": "model", **KINDS[kind]})
    random = np.random.default_rng(0)
    first, second = rows(of, 300, random), rows(of, 500, random)
    constants = fit(of, [(first.feeds, first.outputs)])
    reference = make_reference(of, constants, [(second.feeds, second.outputs, None)])
    one, other = (Monitor((of, reference)) for _ in range(2))
    for block in range(4):
        assert one.update_groups([rows(of, 250, random)], 1e9 + block) == []
    other.restore(one.state())
    other.restore_samples(one.samples_state())
    found = []
    for block in range(4):
        shifted = rows(of, 250, random, shift=1.0)
        found += one.update_groups([shifted], 2e9 + block)
        other.update_groups([shifted], 2e9 + block)
    assert {alarm.detector for alarm in found} == {"sequential", "window"}
    view = one.check(3e9)
    assert view.signals == other.check(3e9).signals and one.state() == other.state()
    assert all(sum(signal.live) == 2000 and sum(signal.reference) == 500 for signal in view.signals)
    assert text_of(view) and str(view)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_requests_of_any_kind_become_the_reference(kind: str) -> None:
    of = parse_contract({"name": "model", **KINDS[kind]})
    random = np.random.default_rng(1)
    watched = Monitor((of, None), options=MonitorOptions(baseline=100))
    for _ in range(6):
        group = rows(of, 100, random)
        watched.update(group.feeds, group.outputs, 1e9)
    assert watched.check(2e9).scored == 600 - 256 - 100


def test_rows_of_several_shapes_are_scored_in_their_order() -> None:
    of = parse_contract({"name": "model", **KINDS["tensors"]})
    random = np.random.default_rng(2)
    first = rows(of, 300, random)
    reference = make_reference(of, fit(of, [(first.feeds, first.outputs)]), [(first.feeds, first.outputs, None)])
    one, other = (Monitor((of, reference)) for _ in range(2))
    short, long = rows(of, 60, random, size=3), rows(of, 40, random, size=9)
    places = random.permutation(100)
    mixed = [
        Group(short.feeds, short.outputs, np.sort(places[:60])),
        Group(long.feeds, long.outputs, np.sort(places[60:])),
    ]
    one.update_groups(mixed, 1e9)
    for place in range(100):
        for group in mixed:
            at = np.flatnonzero(group.places == place)
            feeds = {name: array[at] for name, array in group.feeds.items()}
            outputs = {name: array[at] for name, array in group.outputs.items()}
            other.update(feeds, outputs, 1e9)
    for seen, alone in zip(one.check(2e9).signals, other.check(2e9).signals, strict=True):
        assert seen.live == alone.live
        assert seen.live_mean == pytest.approx(alone.live_mean)
        # Where values tie, random numbers decide, which come in another order.
        if seen.name in ("y.mean", "y.sd", "y.peak", "a.mean", "a.sd"):
            assert seen.evidence == pytest.approx(alone.evidence)
