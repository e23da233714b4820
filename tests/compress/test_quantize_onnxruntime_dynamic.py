"""Dynamic int8 for ONNX Runtime: recurrent layers, embeddings and linear layers, at every size of batch and text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_cases import TOKENS, Averaged, Bag, Case, Recurrent, file_of, heavy, make_case, weights_of

from shipworthy.compress.methods import Dynamic
from shipworthy.compress.quantization.graph import quantize_graph
from shipworthy.runtime import describe


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Case:
    torch.manual_seed(0)
    return make_case(tmp_path_factory.mktemp("recurrent"), Recurrent(), TOKENS)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> Case:
    torch.manual_seed(0)
    return make_case(tmp_path_factory.mktemp("averaged"), Averaged(), TOKENS)


def size_of(case: Case, folder: Path) -> float:
    """Bytes of the weights against those of fp32; in nets as small as these the nodes weigh more than they do."""
    model = describe(folder / "model.onnx")
    assert model.signature == case.job.contract.signature
    integers = sum(values.nbytes for values in weights_of(case.dynamic().artifact))
    module = case.job.model.module
    assert module is not None
    return integers / sum(p.numel() * p.element_size() for p in module.parameters() if p.ndim > 1)


def sizes() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(5)
    return [{"ids": random.integers(0, 100, (batch, tokens))} for batch, tokens in ((1, 1), (2, 9), (7, 64))]


@pytest.mark.full
def test_an_lstm_multiplies_integers(recurrent: Case, tmp_path: Path) -> None:
    made = recurrent.within(tmp_path).dynamic()
    assert heavy(made.artifact) == {"DynamicQuantizeLSTM": "int8", "DynamicQuantizeMatMul": "int8"}
    assert min(recurrent.sqnr(made.artifact, *sizes())) >= 20
    assert [(operation.op, operation.precision) for operation in made.report.operations] == [
        ("Gather", "int8"),
        ("LSTM", "int8"),
        ("Gemm", "int8"),
    ]
    assert 0.25 <= size_of(recurrent.within(tmp_path), tmp_path) < 0.26


@pytest.mark.full
def test_an_lstm_in_a_static_graph_quantizes_its_inputs_as_it_runs(recurrent: Case, tmp_path: Path) -> None:
    graph = recurrent.within(tmp_path).static()
    artifact = graph.save((), "fp32")
    assert heavy(artifact) == {"DynamicQuantizeLSTM": "int8", "QGemm": "int8"}
    assert any("LSTMs quantize their inputs as they run" in note for note in graph.notes)
    assert min(recurrent.sqnr(artifact)) >= 20
    assert min(graph.sensitivity(recurrent.job.probes).values()) > 20
    assert "LSTM" in heavy(graph.save([name for name in graph.operations if graph.kinds[name] == "LSTM"], "fp32"))


def test_an_embedding_model_multiplies_integers(averaged: Case, tmp_path: Path) -> None:
    made = averaged.within(tmp_path).dynamic()
    assert heavy(made.artifact) == {"DynamicQuantizeMatMul": "int8"}
    assert min(averaged.sqnr(made.artifact, *sizes())) >= 20
    assert size_of(averaged.within(tmp_path), tmp_path) == 0.25


def test_a_bag_of_embeddings_whose_loop_exporters_write_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    case = make_case(tmp_path, Bag(), TOKENS)
    made = case.dynamic()
    assert heavy(made.artifact) == {"DynamicQuantizeMatMul": "int8"}
    assert min(case.sqnr(made.artifact, *sizes())) >= 20
    assert {operation.op for operation in made.report.operations} == {"Gather", "Gemm"}


def test_the_verb_gives_the_same_bytes_again(averaged: Case, tmp_path: Path) -> None:
    files = []
    for part in "ab":
        made = quantize_graph(averaged.within(tmp_path / part).job, Dynamic(), "onnxruntime")
        assert made.report.recipe == "dynamic" and made.report.mean_abs_diff["output"] < 0.01
        files.append(file_of(made.artifact).read_bytes())
    assert files[0] == files[1]
