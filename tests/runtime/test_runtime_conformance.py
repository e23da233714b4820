"""One suite for every engine: whatever executes a graph behaves like this."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from engine_zoo import ZOO, Ready

from shipworthy.contract import Array, Dim, Signature, TensorSpec
from shipworthy.errors import EngineError, InputError
from shipworthy.model import run_eager
from shipworthy.runtime import ENGINES, Artifact, OperatingPoint, Runner, describe, open_runner

FAST = ("torch", "torchscript", "onnxruntime", "openvino")
FULL = [(engine, "fp32", name) for engine in FAST for name in ZOO]
FULL += [(engine, "bf16", name) for engine in ("torch", "torchscript", "openvino") for name in ("conv", "tokens")]
COMPILED = [("aoti", "fp32", "tokens"), ("aoti", "bf16", "conv")]
"""A compilation takes ten seconds: one model with dynamic lengths, one in bf16."""

Make = Callable[[str, str, str], Ready]


@pytest.fixture(
    params=[*FULL, *(pytest.param(case, marks=pytest.mark.full) for case in COMPILED)],
    ids=["-".join(case) for case in FULL + COMPILED],
    scope="module",
)
def artifact(request: pytest.FixtureRequest, ready: Make) -> Ready:
    return ready(*request.param)


@pytest.fixture
def runner(artifact: Ready) -> Iterator[Runner]:
    opened = open_runner(artifact.exported.artifact, OperatingPoint(streams=2, threads=2))
    yield opened
    opened.close()


def assert_like_eager(artifact: Ready, answer: dict[str, Array], feeds: dict[str, Array]) -> None:
    expected = run_eager(artifact.specimen.model(), artifact.contract.signature, feeds)
    assert list(answer) == list(expected)
    low = artifact.exported.artifact.precision != "fp32"
    for name, array in expected.items():
        assert answer[name].dtype == array.dtype
        assert answer[name].shape == array.shape
        if low and array.dtype.kind == "f":
            noise = np.square(answer[name] - array, dtype=np.float64).sum()
            assert 10 * np.log10(np.square(array, dtype=np.float64).sum() / max(noise, 1e-30)) > 20
        elif not low:
            np.testing.assert_allclose(answer[name], array, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 5, 17])
def test_any_batch_size_answers_like_eager(artifact: Ready, runner: Runner, batch: int) -> None:
    feeds = artifact.specimen.feeds(batch)
    assert_like_eager(artifact, runner.run(feeds), feeds)


def test_any_dynamic_size_answers_like_eager(artifact: Ready, runner: Runner) -> None:
    choices = max((len(sizes) for sizes in artifact.specimen.sizes.values()), default=1)
    for choice in range(choices):
        for batch in (1, 3):
            feeds = artifact.specimen.feeds(batch, choice)
            assert_like_eager(artifact, runner.run(feeds), feeds)


def test_strides_do_not_matter_and_inputs_stay_as_they_are(artifact: Ready, runner: Runner) -> None:
    feeds = artifact.specimen.feeds(6)
    strided = {name: np.asfortranarray(np.repeat(array, 2, axis=0))[::2] for name, array in feeds.items()}
    for array in strided.values():
        array.flags.writeable = False
    before = {name: array.copy() for name, array in strided.items()}
    answer = runner.run(strided)
    for name, array in runner.run(feeds).items():
        np.testing.assert_array_equal(answer[name], array)
    for name, array in before.items():
        np.testing.assert_array_equal(strided[name], array)


def test_inputs_may_be_read_only(artifact: Ready, runner: Runner) -> None:
    feeds = artifact.specimen.feeds(2)
    received = {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in feeds.items()}
    assert not any(array.flags.writeable for array in received.values())
    answer = runner.run(received)
    for name, array in runner.run(feeds).items():
        np.testing.assert_array_equal(answer[name], array)


def test_answers_belong_to_the_caller(artifact: Ready, runner: Runner) -> None:
    first = runner.run(artifact.specimen.feeds(2))
    kept = {name: array.copy() for name, array in first.items()}
    runner.run(artifact.specimen.feeds(2, seed=99))
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)


def test_concurrent_runs_are_bit_identical_to_sequential_ones(artifact: Ready, runner: Runner) -> None:
    feeds = [artifact.specimen.feeds(1 + seed % 3, seed=seed) for seed in range(24)]
    sequential = [runner.run(f) for f in feeds]
    with ThreadPoolExecutor(6) as pool:
        concurrent = list(pool.map(runner.run, feeds))
    for one, other in zip(sequential, concurrent, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_every_fault_of_the_feeds_is_named_at_once(artifact: Ready, runner: Runner) -> None:
    feeds = artifact.specimen.feeds(2)
    faulty: dict[str, Array] = {name: array.astype("float16") for name, array in feeds.items()}
    faulty["stranger"] = np.zeros(3)
    with pytest.raises(InputError) as caught:
        runner.run(faulty)
    assert {problem.field for problem in caught.value.problems} == {*feeds, "stranger"}


def test_an_empty_batch_is_refused_alike(artifact: Ready, runner: Runner) -> None:
    feeds = {name: array[:0] for name, array in artifact.specimen.feeds(2).items()}
    with pytest.raises(InputError, match="the batch is empty") as caught:
        runner.run(feeds)
    assert len(caught.value.problems) == len(feeds)


def test_zero_dimensions_no_array_and_a_missing_name_are_refused(artifact: Ready, runner: Runner) -> None:
    names = list(artifact.contract.inputs)
    for wrong in (np.float32(1), np.array(1, "float32"), [[1.0]], None):
        with pytest.raises(InputError):
            runner.run(dict.fromkeys(names, wrong))
    with pytest.raises(InputError, match="is missing"):
        runner.run({})


def test_a_runner_answers_after_an_error(artifact: Ready, runner: Runner) -> None:
    feeds = artifact.specimen.feeds(2)
    with pytest.raises(InputError):
        runner.run({})
    assert_like_eager(artifact, runner.run(feeds), feeds)


def test_close_twice_then_run(artifact: Ready) -> None:
    runner = open_runner(artifact.exported.artifact)
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="is closed"):
        runner.run(artifact.specimen.feeds(2))
    with pytest.raises(EngineError, match="is closed"):
        runner.kernels()


def test_close_waits_for_what_is_running(artifact: Ready) -> None:
    runner = open_runner(artifact.exported.artifact, OperatingPoint(streams=2, threads=2))
    expected = runner.run(artifact.specimen.feeds(3))
    ends: list[str] = []
    started = threading.Event()

    def work() -> None:
        started.set()
        try:
            for _ in range(10_000):
                for name, array in runner.run(artifact.specimen.feeds(3)).items():
                    assert np.array_equal(array, expected[name])
        except EngineError as error:
            ends.append(error.reason)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    runner.close()
    for thread in threads:
        thread.join()
    assert ends == ["the runner is closed"] * 4


def test_kernels_show_the_precision_that_executes(artifact: Ready, runner: Runner) -> None:
    heavy = [kernel for kernel in runner.kernels() if kernel.heavy]
    assert heavy
    assert {kernel.precision for kernel in heavy} == {artifact.exported.artifact.precision}


def test_the_file_says_its_signature_and_graph(artifact: Ready) -> None:
    engine = ENGINES[artifact.exported.artifact.engine]
    if not engine.packable:
        pytest.skip("a module in the work folder is no artifact file")
    description = describe(artifact.exported.artifact.directory / engine.entry)
    assert description.signature == artifact.contract.signature
    assert description.text.strip()


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_missing_artifact_is_an_engine_error(engine: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="there is no artifact here"):
        open_runner(Artifact(engine, "fp32", tmp_path, ZOO["mlp"].contract().signature))


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_damaged_artifact_is_an_engine_error(engine: str, tmp_path: Path) -> None:
    (tmp_path / ENGINES[engine].entry).write_bytes(b"\x80\x04 this is no graph at all")
    with pytest.raises(EngineError):
        open_runner(Artifact(engine, "fp32", tmp_path, ZOO["mlp"].contract().signature))


@pytest.mark.parametrize("engine", FAST)
def test_a_batch_that_may_be_empty_gives_empty_answers(engine: str, ready: Make) -> None:
    made = ready(engine, "fp32", "two-towers")
    signature = made.contract.signature
    rows = Dim("batch", min=0)

    def loosened(specs: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
        return {n: TensorSpec(dtype=s.dtype, shape=(rows, *s.shape[1:])) for n, s in specs.items()}

    artifact = made.exported.artifact
    loose = Signature(inputs=loosened(signature.inputs), outputs=loosened(signature.outputs))
    runner = open_runner(Artifact(engine, "fp32", artifact.directory, loose))
    answer = runner.run({name: array[:0] for name, array in made.specimen.feeds(2).items()})
    assert {name: (array.shape, array.dtype.name) for name, array in answer.items()} == {
        "score": ((0, 5), "float32"),
        "best": ((0,), "int64"),
    }
    runner.close()
