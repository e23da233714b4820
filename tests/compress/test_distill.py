"""A student is taught: the loss, the teacher's part in it, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prune_nets import contract_for
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from shipworthy.compress.distillation import distill
from shipworthy.compress.lessons import lesson_of
from shipworthy.compress.made import Reshaped
from shipworthy.compress.methods import Distill, Training
from shipworthy.contract import Contract
from shipworthy.data import as_dataset
from shipworthy.errors import CompressError
from shipworthy.evidence import Epoch
from shipworthy.model import LoadedModel

pytestmark = pytest.mark.usefixtures("single_threaded")

CLASSES = {"task": {"kind": "classification"}}
SHORT = Training(epochs=2, lr=1e-2)


def stated(kind: str = "classification", width: int = 3, meaning: str = "logits") -> Contract:
    outputs = {"y": {"dtype": "float32", "shape": ["batch", width], "kind": meaning}}
    return contract_for([8], outputs=outputs, task={"kind": kind})


def rows(count: int = 40, **more: Any) -> dict[str, Any]:
    x = np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32)
    return {"x": x, "label": (x[:, 0] > 0).astype(np.int64), **more}


def teacher() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))


def student() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))


def taught(master: nn.Module, pupil: Any, contract: Contract | None = None, **more: Any) -> Reshaped:
    method = Distill(training=SHORT, **more.pop("settings", {}))
    return distill(master, pupil, contract or stated(), method, progress=False, **{"train": rows(), **more})


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(4)


def loss(contract: Contract, student_says: Any, teacher_says: Any, targets: Any = None, **settings: Any) -> float:
    """Of one mini-batch whose student and teacher say exactly this."""

    class Says(nn.Module):
        def __init__(self, answers: Any) -> None:
            super().__init__()
            self.answers = nn.Parameter(torch.tensor(answers, dtype=torch.float32))

        def forward(self, x: Tensor) -> Tensor:
            return self.answers[: len(x)]

    data = {"x": np.zeros((len(student_says), 8), np.float32), **({} if targets is None else {"label": targets})}
    master = LoadedModel("module", Says(teacher_says).eval())
    lesson = lesson_of(master, contract, Distill(**settings), as_dataset(data, contract), None)
    (chunk,) = lesson.data.chunks  # type: ignore[union-attr]
    given = {name: torch.from_numpy(array) for name, array in chunk.inputs.items()}
    wanted = torch.empty(len(student_says), 0) if targets is None else torch.from_numpy(np.asarray(chunk.targets))
    return lesson.step(Says(student_says), given, wanted).item()


def softened(scores: Any, temperature: float) -> np.ndarray:
    raised = np.exp(np.asarray(scores) / temperature)
    return raised / raised.sum(-1, keepdims=True)


def test_the_loss_of_classification_is_hintons() -> None:
    pupil, master, targets = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], [0, 2]
    soft, wanted = softened(pupil, 4.0), softened(master, 4.0)
    divergence = (wanted * np.log(wanted / soft)).sum(1).mean()
    entropy = -np.log(softened(pupil, 1.0)[[0, 1], targets]).mean()
    expected = 0.7 * 16 * divergence + 0.3 * entropy
    assert loss(stated(), pupil, master, targets) == pytest.approx(expected, rel=1e-5)
    assert loss(stated(), pupil, master) == pytest.approx(16 * divergence, rel=1e-5), "without targets alpha is 1"
    assert loss(stated(), pupil, master, targets, alpha=0.0) == pytest.approx(entropy, rel=1e-5)
    hot = loss(stated(), pupil, master, targets, alpha=1.0, temperature=2.0)
    soft, wanted = softened(pupil, 2.0), softened(master, 2.0)
    assert hot == pytest.approx(4 * (wanted * np.log(wanted / soft)).sum(1).mean(), rel=1e-5)


def test_probabilities_teach_as_the_scores_behind_them() -> None:
    pupil, master = [[0.5, -1.0, 2.0]], [[3.0, 1.0, 0.0]]
    found = loss(stated(meaning="probabilities"), softened(pupil, 1.0), softened(master, 1.0))
    assert found == pytest.approx(loss(stated(), pupil, master), rel=1e-4)


def test_multilabel_compares_each_label() -> None:
    contract = stated("multilabel", 2)
    wanted, found = 1 / (1 + math.exp(-1.0 / 2)), 1 / (1 + math.exp(-3.0 / 2))
    first = wanted * math.log(wanted / found) + (1 - wanted) * math.log((1 - wanted) / (1 - found))
    assert loss(contract, [[3.0, 0.0]], [[1.0, 0.0]], temperature=2.0) == pytest.approx(4 * first / 2, rel=1e-5)
    assert loss(contract, [[1.0, 0.0]], [[1.0, 0.0]]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("kind", "targets"), [("regression", [[1.0], [1.0]]), ("embedding", None)])
def test_other_tasks_compare_squares(kind: str, targets: Any) -> None:
    contract = stated(kind, 1, "values")
    found = loss(contract, [[1.0], [2.0]], [[3.0], [2.0]], targets, alpha=0.5)
    assert found == pytest.approx(0.5 * 2.0 + 0.5 * 0.5 if targets else 2.0)


class Counting(nn.Module):
    """How many samples it was asked about, in which mode, and whether gradients were recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = teacher()
        self.asked: list[tuple[int, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append((len(x), self.training, torch.is_grad_enabled()))
        return self.inner(x)


def test_the_teacher_answers_once_in_evaluation_mode_without_gradients() -> None:
    master = Counting().eval()
    before = {name: value.clone() for name, value in master.state_dict().items()}
    loaded = LoadedModel("module", master)
    training = Training(epochs=4)
    distill(loaded, student(), stated(), Distill(training=training), train=rows(), progress=False)
    while_taught = [count for count, *_ in master.asked]
    assert sum(while_taught) < 3 * 40, "once to learn from and once to compare, not in each of four epochs"
    assert not any(mode or gradients for _, mode, gradients in master.asked)
    assert all(torch.equal(value, before[name]) for name, value in master.state_dict().items())
    assert all(parameter.grad is None for parameter in master.parameters())


def test_the_users_student_is_not_touched_and_the_copy_learns() -> None:
    pupil = student().train()
    before = {name: value.clone() for name, value in pupil.state_dict().items()}
    found = taught(teacher(), pupil)
    assert all(torch.equal(value, before[name]) for name, value in pupil.state_dict().items())
    assert pupil.training and found.model.module is not None and not found.model.module.training
    assert not torch.equal(found.model.module[0].weight, pupil[0].weight)


def test_the_report_compares_with_the_teacher() -> None:
    report = taught(teacher(), student()).report
    assert (report.recipe, report.samples, len(report.epochs)) == ("distill", 40, 2)
    assert (report.parameters_before, report.parameters_after) == (8 * 32 + 32 + 64 + 32 * 3 + 3, 8 * 4 + 4 + 12 + 3)
    assert (report.macs_before, report.macs_after) == (8 * 32 + 32 * 3, 8 * 4 + 4 * 3)
    assert report.ratio > 4 and report.mean_abs_diff["y"] > 0
    assert report.notes == ("loss: 0.7 from the teacher's answers, 0.3 from the targets, at temperature 4",)


def test_data_without_targets_is_said() -> None:
    data = rows()
    del data["label"]
    found = taught(teacher(), student(), train=data)
    (finding,) = found.findings
    assert finding.rule == "distilled-without-targets"
    assert finding.why.startswith("40 of 40 training samples")


def test_a_data_loader_is_iterated_and_the_teacher_asked_anew() -> None:
    data = rows()
    pairs = TensorDataset(torch.from_numpy(data["x"]), torch.from_numpy(data["label"]))
    found = taught(teacher(), student(), train=DataLoader(pairs, batch_size=10))
    assert "the teacher answers anew in each epoch" in found.report.notes
    assert found.report.samples is None
    same = taught(teacher(), student(), train=DataLoader(pairs, batch_size=10))
    assert len(same.report.epochs) == 2


def test_cached_and_anew_give_the_same_loss() -> None:
    master, pupil, data = teacher().eval(), student(), rows(16)
    pairs = TensorDataset(torch.from_numpy(data["x"]), torch.from_numpy(data["label"]))
    one = Distill(training=Training(epochs=1, batch=16))
    cached = distill(master, pupil, stated(), one, train=data, progress=False)
    anew = distill(master, pupil, stated(), one, train=DataLoader(pairs, batch_size=16), progress=False)
    assert cached.report.epochs[0].loss == pytest.approx(anew.report.epochs[0].loss, rel=1e-5)


def test_a_step_of_the_users_own_replaces_the_tasks_loss() -> None:
    seen: list[int] = []

    def step(model: nn.Module, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        assert list(inputs) == ["x"]
        seen.append(len(targets))
        return functional.cross_entropy(model(inputs["x"]), targets)

    taught(teacher(), student(), train_step=step)
    assert sum(seen) == 2 * 40
    seen.clear()
    taught(teacher(), student(), train_step=step, settings={"alpha": 1.0})
    assert seen == []


def test_a_given_optimiser_trains_the_student() -> None:
    made: list[Any] = []

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=0.1, momentum=0.9))
        return made[-1]

    taught(teacher(), student(), optimizer=optimizer)
    assert len(made) == 1 and len(made[0].state) == 4


def test_patience_ends_it() -> None:
    settings = Distill(training=Training(epochs=30, lr=1e-12, patience=2))
    found = distill(teacher(), student(), stated(), settings, train=rows(), validation=rows(), progress=False)
    assert len(found.report.epochs) == 2


def test_a_function_hears_of_each_epoch() -> None:
    heard: list[Epoch] = []
    found = distill(teacher(), student(), stated(), Distill(training=SHORT), train=rows(), progress=heard.append)
    assert tuple(heard) == found.report.epochs


def test_an_interrupted_distillation_goes_on(tmp_path: Path) -> None:
    master, pupil, path = teacher().eval(), student(), tmp_path / "c.pt"
    whole = taught(master, pupil)
    first = taught(master, pupil, checkpoint=path)
    again = taught(master, pupil, checkpoint=path)
    assert first.model.module is not None and again.model.module is not None and whole.model.module is not None
    for other in (first, again):
        assert torch.equal(other.model.module[0].weight, whole.model.module[0].weight)  # type: ignore[index]
    with pytest.raises(CompressError, match="is of another training"):
        taught(master, pupil, checkpoint=path, settings={"temperature": 2.0})


STUDENT = """
import torch
from torch import nn

def build_student():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 3))

def build_nothing():
    return 3
"""


def test_the_contract_names_the_student(project: Callable[..., Contract]) -> None:
    outputs = {"y": {"dtype": "float32", "shape": ["batch", 3], "kind": "logits"}}
    inputs = {"x": {"dtype": "float32", "shape": ["batch", 8]}}
    contract = project(STUDENT, inputs=inputs, outputs=outputs, search={"distill": "train:build_student"}, **CLASSES)
    found = taught(teacher(), None, contract)
    assert found.report.parameters_after == 8 * 2 + 2 + 2 * 3 + 3
    assert taught(teacher(), "train:build_student", contract).report.parameters_after == 27


@pytest.mark.parametrize(
    ("pupil", "why"),
    [
        (nn.Linear(8, 2), r"gives output \[2, 2\] for a batch of 2, and the teacher y \[2, 3\]"),
        (nn.Linear(7, 3), "the student: does not take the contract's inputs: raises RuntimeError"),
        (None, "has no student; name what builds it in search.distill"),
    ],
)
def test_a_student_that_does_not_fit_is_refused_before_training(pupil: Any, why: str) -> None:
    with pytest.raises(CompressError, match=why):
        taught(teacher(), pupil)


def test_no_training_data_is_refused() -> None:
    with pytest.raises(CompressError, match="has no training data"):
        distill(teacher(), student(), stated(), progress=False)


@pytest.mark.parametrize("settings", [{"alpha": 1.5}, {"alpha": -0.1}, {"temperature": 0.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(CompressError, match=next(iter(settings))):
        Distill(**settings)


def test_a_traced_teacher_teaches_too() -> None:
    traced = torch.jit.trace(teacher().eval(), torch.zeros(2, 8))
    found = taught(LoadedModel("torchscript", traced), student())  # type: ignore[arg-type]
    assert found.report.macs_before is None
    assert found.report.parameters_before == 8 * 32 + 32 + 64 + 32 * 3 + 3
