"""A first contract: what is found by running a model, and what is said of it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from shipworthy.contract import Contract, Dim, parse_contract
from shipworthy.errors import ContractError, DataError, ModelError
from shipworthy.model.draft import Draft, draft_contract
from shipworthy.model.draft_sizes import find_sizes, resized
from shipworthy.model.draft_task import guess_task

MODELS = """
import torch
from torch import nn

torch.manual_seed(0)


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 10),
        )

    def forward(self, image):
        return self.body(image)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 5)

    def forward(self, x):
        return self.convolution(x).mean((2, 3))


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places, self.head = nn.Embedding(50, 8), nn.Embedding(40, 8), nn.Linear(8, 3)

    def forward(self, ids, mask):
        x = (self.words(ids) + self.places(torch.arange(ids.shape[1]))) * mask[..., None]
        return {"probabilities": self.head(x.sum(1) / mask.sum(1, keepdim=True)).softmax(-1)}


class Attention(nn.Module):
    def forward(self, x, weights):
        return torch.bmm(weights, x)


class OnlyFour(nn.Module):
    def forward(self, x):
        return x.view(4, 12).sum(1, keepdim=True)


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2).double()

    def forward(self, x):
        return self.layer(x)


class Several(nn.Module):
    def forward(self, *xs):
        return sum(xs)


def rows():
    return nn.Sequential(nn.Linear(4, 1))


def wide():
    return nn.Linear(4, 2000)


def row():
    return [5.1, 3.5, 1.4, 0.2]


def image():
    return torch.randn(1, 1, 8, 8)


def one_image():
    return torch.randn(1, 8, 8)


def colour():
    return torch.randn(2, 3, 32, 48)


def tokens():
    return {"mask": torch.ones(1, 12, dtype=torch.long), "ids": torch.randint(0, 50, (1, 12)), "label": [1]}


def all_tokens():
    return torch.randint(0, 50, (1, 40)), torch.ones(1, 40, dtype=torch.long)


def pair():
    return torch.randn(2, 6, 4), torch.randn(2, 5, 6)


def three():
    return torch.randn(2, 3), torch.randn(2, 3), torch.randn(2, 3)


def four():
    return torch.randn(4, 3, 4)


def doubles():
    return torch.randn(3, 4, dtype=torch.float64)


def nothing():
    return None


def fails():
    raise OSError("the disk is gone")


def renamed():
    return {"flower": torch.randn(2, 4)}


def only_mask():
    return {"mask": torch.ones(1, 12, dtype=torch.long)}


def complex_numbers():
    return torch.zeros(2, 4, dtype=torch.complex64)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "made.py").write_text(MODELS)
    return tmp_path


def shapes(draft: Draft) -> dict[str, list[str]]:
    return {name: [str(size) for size in spec.shape] for name, spec in draft.contract.inputs.items()}


def assert_text_is_the_contract(draft: Draft) -> None:
    assert parse_contract(tomllib.loads(draft.toml), root=draft.contract.root) == draft.contract


def test_images(root: Path) -> None:
    draft = draft_contract("made:Images", "made:image", root)
    assert draft.contract.name == "made"
    assert shapes(draft) == {"image": ["batch", "1", "8", "8"]}, "one pixel more is only forgiven by the pooling"
    assert draft.contract.inputs["image"].dtype == "float32"
    assert draft.contract.task.kind == "classification"
    assert draft.contract.outputs["logits"].show() == "float32 [batch, 10]"
    assert draft.contract.outputs["logits"].kind == "logits"
    assert (
        '# Where this is an image: accept = { kind = "image", size = [8, 8], mode = "L" }\n[inputs.image]' in draft.toml
    )
    assert "# Assumed: the output has 10 columns" in draft.toml
    assert any("kind is regression" in note for note in draft.notes), "what is not certain is said"
    assert_text_is_the_contract(draft)


def test_a_sample_gets_its_batch_axis(root: Path) -> None:
    for model, example, shape in (
        ("made:Images", "made:one_image", {"image": ["batch", "1", "8", "8"]}),
        ("made:rows", "made:row", {"input": ["batch", "4"]}),
    ):
        draft = draft_contract(model, example, root)
        assert shapes(draft) == shape
        assert any("a batch axis was put in front" in note for note in draft.notes)


def test_numbers_of_python_are_float32(root: Path) -> None:
    draft = draft_contract("made:rows", "made:row", root, "iris")
    assert draft.contract.name == "iris"
    assert draft.contract.inputs["input"].dtype == "float32"
    assert "the example's input is float64; the model takes float32" in draft.notes
    assert draft.contract.task.kind == "regression"
    assert draft.contract.outputs["output"].show() == "float32 [batch, 1]"
    assert_text_is_the_contract(draft)


def test_a_model_of_float64_stays_one(root: Path) -> None:
    draft = draft_contract("made:Double", "made:doubles", root)
    assert draft.contract.inputs["x"].dtype == "float64"
    assert not any("float32" in note for note in draft.notes)


def test_images_of_any_size_have_their_least(root: Path) -> None:
    draft = draft_contract("made:Pooled", "made:colour", root)
    assert shapes(draft) == {"x": ["batch", "3", "height:5..", "width:5.."]}
    assert "# The model ran at other sizes of height:5.. and width:5..; write a number" in draft.toml
    assert_text_is_the_contract(draft)


@pytest.mark.parametrize("example", ["made:tokens", "made:all_tokens"])
def test_tokens_share_a_bounded_length(root: Path, example: str) -> None:
    draft = draft_contract("made:Text", example, root)
    assert shapes(draft) == {"ids": ["batch", "tokens:1..40"], "mask": ["batch", "tokens:1..40"]}
    assert {name: spec.dtype for name, spec in draft.contract.inputs.items()} == {"ids": "int64", "mask": "int64"}
    assert draft.contract.outputs["probabilities"].kind == "probabilities"
    assert "sums to 1" in draft.toml
    assert_text_is_the_contract(draft)


def test_dimensions_of_two_inputs(root: Path) -> None:
    draft = draft_contract("made:Attention", "made:pair", root)
    found = shapes(draft)
    assert found["x"][1] == found["weights"][2], "the inner dimension of a product is one"
    names = {found["x"][1], found["x"][2], found["weights"][1]}
    assert len(names) == 3
    assert not any(name.isdigit() for name in names)
    assert draft.contract.outputs["output"].shape[1] == draft.contract.inputs["weights"].shape[1]
    assert draft.contract.task.kind == "tensors"
    assert '[task]\nkind = "tensors"' in draft.toml
    assert_text_is_the_contract(draft)


def test_arguments_without_names(root: Path) -> None:
    draft = draft_contract("made:Several", "made:three", root)
    assert list(draft.contract.inputs) == ["input_0", "input_1", "input_2"]


def test_names_of_the_example_where_the_model_has_none(root: Path) -> None:
    draft = draft_contract("made:rows", "made:renamed", root)
    assert list(draft.contract.inputs) == ["flower"]
    assert any("named as in made:renamed" in note for note in draft.notes)


def test_example_from_a_file(root: Path) -> None:
    np.savez(root / "example.npz", image=np.zeros((3, 1, 8, 8), np.float32), label=[1, 2, 3])
    draft = draft_contract("made:Images", "example.npz", root)
    assert shapes(draft) == {"image": ["batch", "1", "8", "8"]}


def graph_files(root: Path) -> Iterator[str]:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    torch.jit.trace(module, torch.zeros(2, 4)).save(str(root / "net.pt"))  # type: ignore[no-untyped-call]
    yield "net.pt"
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(module, (torch.zeros(2, 4),), dynamic_shapes=dynamic)
    torch.export.save(program, root / "net.pt2")
    yield "net.pt2"
    torch.onnx.export(program, dynamo=True, verbose=False).save(str(root / "net.onnx"))  # type: ignore[union-attr]
    yield "net.onnx"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_graph_files(root: Path) -> None:
    for file in graph_files(root):
        draft = draft_contract(file, "made:row", root)
        assert draft.contract.name == "net"
        assert list(shapes(draft).values()) == [["batch", "4"]], file
        assert [spec.show() for spec in draft.contract.outputs.values()] == ["float32 [batch, 3]"]
        assert_text_is_the_contract(draft)


@pytest.mark.parametrize(
    ("model", "example", "error", "said"),
    [
        ("made:OnlyFour", "made:four", ModelError, r"takes the example \(x float32 \[4, 3, 4\]\), and no other batch"),
        ("made:Images", "made:row", ModelError, r"fails on the example \(image float32 \[4\]\): RuntimeError: "),
        ("made:Images", "made:tokens", DataError, "names mask, ids, and the model takes image; use these names"),
        ("made:Images", "made:pair", DataError, r"gives 2 inputs, and the model takes 1 \(image\)"),
        ("made:Text", "made:only_mask", DataError, "leaves ids out, and inputs are given by their position"),
        ("made:Text", "made:image", DataError, r"gives 1 inputs, and the model takes 2 \(ids, mask\)"),
        ("made:rows", "made:complex_numbers", DataError, "is of dtype complex64; give one of float64, "),
        ("made:rows", "made:nothing", DataError, "made:nothing: returns nothing"),
        ("made:rows", "made:fails", DataError, r"raises OSError at made.py:\d+: the disk is gone"),
        ("made:rows", "made:rwo", DataError, "has no attribute 'rwo'; did you mean 'row'"),
        ("made:rows", "row", DataError, "is neither module:callable nor an .npz file"),
        ("made:rows", "gone.npz", DataError, "gone.npz: there is no such file"),
        ("made:rwos", "made:row", ModelError, "has no attribute 'rwos'"),
        ("gone.onnx", "made:row", ModelError, "there is no such file"),
        ("made.h5", "made:row", ContractError, "model: expected"),
    ],
)
def test_faults(root: Path, model: str, example: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        draft_contract(model, example, root)


def test_a_name_that_is_none(root: Path) -> None:
    with pytest.raises(ContractError, match=r'name: .*write "my-net"'):
        draft_contract("made:rows", "made:row", root, "My Net")


def test_names_are_made_of_the_reference(root: Path) -> None:
    (root / "Big_Net.py").write_text(MODELS)
    assert draft_contract("Big_Net:rows", "Big_Net:row", root).contract.name == "big_net"


def rng(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


SOFTMAX = np.exp(rng(4, 3)) / np.exp(rng(4, 3)).sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [
        ({"output": rng(4, 3)}, "classification"),
        ({"output": SOFTMAX}, "classification"),
        ({"output": 1 / (1 + np.exp(-rng(4, 3)))}, "multilabel"),
        ({"output": rng(4)}, "regression"),
        ({"output": rng(4, 1)}, "regression"),
        ({"output": abs(rng(4, 1)) / 10}, "regression"),
        ({"output": rng(4, 1001)}, "tensors"),
        ({"output": rng(4, 30) / np.linalg.norm(rng(4, 30), axis=1, keepdims=True)}, "embedding"),
        ({"sentence_embedding": rng(4, 30)}, "embedding"),
        ({"output": rng(4, 5, 3)}, "tensors"),
        ({"output": np.zeros((4, 3), int)}, "tensors"),
        ({"boxes": rng(4, 4), "logits": rng(4, 3)}, "classification"),
        ({"boxes": rng(4, 4), "masks": rng(4, 3)}, "tensors"),
    ],
)
def test_task_is_guessed_and_the_guess_explained(outputs: dict[str, np.ndarray], kind: str) -> None:
    guess = guess_task(outputs)
    assert guess.kind == kind
    assert guess.why
    assert guess.classes == (next(iter(outputs.values())).shape[1] if kind == "multilabel" else guess.classes)
    assert (guess.classes is not None) == (kind in ("classification", "multilabel"))


@pytest.mark.parametrize(("least", "most"), [(1, None), (3, None), (1, 40), (2, 9), (8, 31)])
def test_bounds_are_exact(least: int, most: int | None) -> None:
    def accepts(feeds: dict[str, np.ndarray]) -> bool:
        return least <= feeds["ids"].shape[1] <= (most or 10**9)

    example = {"ids": np.ones((2, 8), np.int64)}
    found = find_sizes(example, accepts).shapes["ids"][1]
    assert found == Dim("tokens", least, most)


def test_only_multiples_are_called_fixed() -> None:
    feeds = {"x": np.ones((2, 16), np.float32)}
    assert find_sizes(feeds, lambda tried: tried["x"].shape[1] % 16 == 0).shapes["x"] == (Dim("batch"), 16)


def test_resizing_repeats_from_the_beginning() -> None:
    feeds = {"x": np.arange(6).reshape(2, 3)}
    assert resized(feeds, {("x", 1): 5})["x"].tolist() == [[0, 1, 2, 0, 1], [3, 4, 5, 3, 4]]
    assert resized(feeds, {("x", 0): 1})["x"].tolist() == [[0, 1, 2]]
    assert feeds["x"].shape == (2, 3)


def test_contract_is_checked(root: Path) -> None:
    draft = draft_contract("made:wide", "made:row", root)
    assert isinstance(draft.contract, Contract)
    assert draft.contract.task.kind == "tensors"
    assert "2000 columns" in draft.toml
