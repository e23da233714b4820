"""A training that was killed and goes on ends with the same bits as one that was not."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training_loop import CLASSES, bits, net, points
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from shipworthy.compress.methods import Training
from shipworthy.compress.training import Loader, default_step, train, validator
from shipworthy.errors import CompressError
from shipworthy.evidence import Epoch

pytestmark = pytest.mark.usefixtures("single_threaded")

SETTINGS = Training(epochs=6, lr=1e-2, patience=None)


class Interrupted(BaseException):
    pass


def run(module: nn.Module, checkpoint: Path | None, stop: int | None = None, data: Any = None, **changed: Any) -> Any:
    def told(epoch: Epoch) -> None:
        if epoch.number == stop:
            raise Interrupted

    arguments = {"settings": SETTINGS, "validate": validator(CLASSES, points(30, seed=2)), **changed}
    settings = arguments.pop("settings")
    step = default_step(CLASSES)
    return train(module, step, data or points(), settings, checkpoint=checkpoint, told=told, **arguments)


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


@pytest.mark.parametrize(
    ("stop", "optimizer"),
    [(5, None), (1, momentum), *(pytest.param(*case, marks=pytest.mark.full) for case in ((1, None), (5, momentum)))],
)
def test_resumed_bits_are_those_of_an_uninterrupted_training(tmp_path: Path, stop: int, optimizer: Any) -> None:
    whole, broken, resumed = net(), net(), net()
    epochs = run(whole, None, optimizer=optimizer)
    with pytest.raises(Interrupted):
        run(broken, tmp_path / "c.pt", stop, optimizer=optimizer)
    again = run(resumed, tmp_path / "c.pt", optimizer=optimizer)
    assert bits(resumed) == bits(whole)
    assert [(e.number, e.loss, e.validation) for e in again] == [(e.number, e.loss, e.validation) for e in epochs]


def test_a_loader_with_a_generator_of_its_own_goes_on_where_it_was(tmp_path: Path) -> None:
    def loader() -> Loader:
        chunk = points().chunks[0]
        assert chunk.targets is not None
        pairs = TensorDataset(torch.from_numpy(chunk.inputs["x"]), torch.from_numpy(chunk.targets))
        generator = torch.Generator().manual_seed(5)
        return Loader(DataLoader(pairs, batch_size=16, shuffle=True, generator=generator), CLASSES)

    whole, broken, resumed = net(), net(), net()
    run(whole, None, data=loader())
    with pytest.raises(Interrupted):
        run(broken, tmp_path / "c.pt", 3, data=loader())
    run(resumed, tmp_path / "c.pt", data=loader())
    assert bits(resumed) == bits(whole)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_training_resume as t
t.torch.set_num_threads(1)
def told(epoch):
    if epoch.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
t.train(t.net(), t.default_step(t.CLASSES), t.points(), t.SETTINGS,
        validate=t.validator(t.CLASSES, t.points(30, seed=2)), checkpoint=Path(sys.argv[1]), told=told)
"""


def test_a_killed_process_loses_no_finished_epoch(tmp_path: Path) -> None:
    source = textwrap.dedent(KILLED).format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", source, str(tmp_path / "c.pt")], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    whole, resumed, told = net(), net(), []
    run(whole, None)
    validate = validator(CLASSES, points(30, seed=2))
    train(
        resumed,
        default_step(CLASSES),
        points(),
        SETTINGS,
        validate=validate,
        checkpoint=tmp_path / "c.pt",
        told=lambda epoch: told.append(epoch.number),
    )
    assert bits(resumed) == bits(whole)
    assert told == [4, 5, 6]
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, again, told = net(), net(), []
    run(first, tmp_path / "c.pt")
    settings = {"validate": validator(CLASSES, points(30, seed=2)), "checkpoint": tmp_path / "c.pt"}
    train(again, default_step(CLASSES), points(), SETTINGS, told=told.append, **settings)  # type: ignore[arg-type]
    assert bits(again) == bits(first)
    assert told == []


@pytest.mark.parametrize("what", ["settings", "weights", "data", "optimizer", "step"])
def test_the_checkpoint_of_another_training_is_refused(tmp_path: Path, what: str) -> None:
    run(net(), tmp_path / "c.pt", settings=Training(epochs=1))
    changed: dict[str, Any] = {"settings": Training(epochs=1)}
    module = net()
    if what == "settings":
        changed = {"settings": Training(epochs=2)}
    elif what == "weights":
        module = net(seed=1)
    elif what == "data":
        changed["data"] = points(60)
    elif what == "optimizer":
        changed["optimizer"] = momentum
    else:
        changed["identified_by"] = "another step"
    with pytest.raises(CompressError, match=r"c\.pt: is of another training"):
        run(module, tmp_path / "c.pt", **changed)


class Malicious:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("kind", ["noise", "truncated", "pickle", "tensor"])
def test_what_is_no_checkpoint_is_refused_and_never_executed(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.pt"
    if kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(1000))
    elif kind == "truncated":
        run(net(), path, settings=Training(epochs=1))
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Malicious()))
    else:
        torch.save(torch.zeros(2), path)
    with pytest.raises(CompressError, match="is no checkpoint"):
        run(net(), path)
    assert not (tmp_path / "executed").exists()
