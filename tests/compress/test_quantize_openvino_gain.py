"""Operations that gain nothing by int8, told from stored times; and whose time the executed nodes take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quantize_subjects import IMAGES, Conv, case

from shipworthy.compress import Static
from shipworthy.compress.quantization.gain import Fused, costs, fused_layers, fused_of, gainless
from shipworthy.compress.quantization.openvino import static
from shipworthy.runtime.engine_openvino import Layer
from shipworthy.runtime.operators import OperatorTime


def _time(name: str, us: float, op: str = "Convolution", precision: str = "fp32") -> OperatorTime:
    return OperatorTime(name=name, op=op, precision=precision, us=us, calls=10)


BEFORE = [_time("a", 100.0), _time("b", 100.0), _time("c", 100.0), _time("d", 10.0)]


def _gainless(
    fp32: Sequence[OperatorTime],
    int8: Sequence[OperatorTime],
    operations: Sequence[str],
    fused: tuple[Fused, Fused] | None = None,
) -> tuple[str, ...]:
    before, after = (
        costs(times, operations, each) for times, each in zip((fp32, int8), fused or (Fused(), Fused()), strict=True)
    )
    return gainless(before, after, operations)


def test_what_is_faster_stays_and_what_is_not_goes_back() -> None:
    after = [_time("a", 40.0), _time("b", 100.0), _time("c", 98.0), _time("e", 1.0)]
    assert _gainless(BEFORE, after, ["a", "b", "c", "d", "e"]) == ("b", "c")


def test_a_conversion_counts_for_what_it_prepares() -> None:
    after = [_time("a", 40.0), _time("b", 40.0), _time("reorder", 140.0, "Reorder")]
    fused = (Fused(), Fused(before={"reorder": ("a",)}))
    assert _gainless(BEFORE, after, ["a", "b"], fused=fused) == ("a",)
    shared = (Fused(), Fused(before={"reorder": ("a", "b")}))
    assert _gainless(BEFORE, after, ["a", "b"], fused=shared) == ("a", "b")


def test_the_time_of_a_fused_node_is_shared() -> None:
    fused = (Fused(), Fused(inside={"both": ("a", "b")}))
    assert _gainless(BEFORE, [_time("both", 150.0)], ["a", "b"], fused=fused) == ()
    assert _gainless(BEFORE, [_time("both", 250.0)], ["a", "b"], fused=fused) == ("a", "b")


def test_layers_say_what_they_prepare_for() -> None:
    layers = [
        Layer("x/quantize", "fp32", False, ("x/fq",), ("reorder",)),
        Layer("reorder", "fp32", False, (), ("first",)),
        Layer("first", "int8", True, ("one/Dequantization.3", "relu"), ("pool",)),
        Layer("pool", "int8", False, ("pool",), ("last",)),
        Layer("last", "int8", True, ("two", "three"), ()),
    ]
    found = fused_layers(layers, ["one", "two", "three"])
    assert found.inside["first"] == ("one",) and found.inside["last"] == ("two", "three")
    assert found.before == {"x/quantize": ("one",), "reorder": ("one",), "pool": ("two", "three")}


def test_every_operation_of_a_real_graph_is_found_in_what_executes(tmp_path: Path) -> None:
    subject = case(Conv(8), IMAGES, tmp_path)
    graph = static(subject.job, Static())
    assert subject.job.base is not None
    for artifact in (subject.job.base, graph.save((), "fp32")):
        found = fused_of(artifact, graph.operations)
        assert {name for names in found.inside.values() for name in names} == set(graph.operations)
