"""The classic errors, really raised, and what is said of them."""

from __future__ import annotations

import argparse
import copy
import io
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shipworthy.errors import DataError
from shipworthy.preflight import Explanation, explain


def raised(fail: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as caught:
        fail()
    return caught.value


def said(fail: Callable[[], Any]) -> Explanation:
    return explain(raised(fail))


X = torch.zeros(2, 4)
D = X.double()

DTYPES = {
    "linear of float64": (lambda: nn.Linear(4, 3)(D), ["float64 and float32", ".float()"]),
    "linear of int64": (lambda: nn.Linear(4, 3)(X.long()), ["int64 and float32", "cast the int64 tensor to float32"]),
    "double model": (lambda: nn.Linear(4, 3).double()(X), ["float32 and float64", "model.float()"]),
    "matmul": (lambda: X @ D.T, ["float32 and float64"]),
    "conv of float64": (
        lambda: nn.Conv2d(3, 4, 3)(torch.zeros(1, 3, 8, 8).double()),
        ["input is float64, the layer's weights are float32"],
    ),
    "conv of uint8": (
        lambda: nn.Conv2d(3, 4, 3)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)),
        ["input is uint8", "cast the uint8 tensor to float32"],
    ),
    "lstm": (lambda: nn.LSTM(4, 4)(torch.zeros(2, 3, 4).double()), ["input is float64"]),
    "layer norm": (lambda: nn.LayerNorm(4)(D), ["normalisation layer", ".astype(np.float32)"]),
    "bmm": (
        lambda: torch.bmm(torch.zeros(1, 2, 3), torch.zeros(1, 3, 2).double()),
        ["different dtypes: float64 and float32"],
    ),
    "attention": (
        lambda: F.scaled_dot_product_attention(X[None], D[None], X[None]),
        ["different dtypes: float32 and float64"],
    ),
    "embedding of floats": (lambda: nn.Embedding(10, 3)(X), ["got float32", ".long()", 'dtype = "int64"']),
    "embedding of int16": (lambda: nn.Embedding(10, 3)(X.short()), ["got int16"]),
    "index of floats": (lambda: X[torch.tensor([0.5])], ["fractions", ".long()"]),
    "labels of float": (lambda: F.cross_entropy(X, torch.zeros(2)), ["class numbers of int64", "got float32"]),
    "softmax of int64": (lambda: X.long().softmax(0), ["softmax", "int64", ".float()"]),
    "mean of int64": (lambda: X.long().mean(), ["mean", "int64"]),
    "text array": (lambda: torch.from_numpy(np.array(["a"])), ["array of str_", "make it numeric"]),
    "object array": (lambda: torch.from_numpy(np.array([None])), ["array of object_"]),
}

SHAPES = {
    "linear": (
        lambda: nn.Linear(128, 10)(torch.zeros(32, 64)),
        ["takes 128 features and was given 64", "nn.Linear(64, 10)", "x.flatten(1)"],
    ),
    "grey for colour": (
        lambda: nn.Conv2d(3, 4, 3)(torch.zeros(1, 1, 8, 8)),
        ["takes 3 channels and was given 1", "[1, 1, 8, 8]", "grey"],
    ),
    "colour for grey": (lambda: nn.Conv2d(1, 4, 3)(torch.zeros(1, 3, 8, 8)), ["takes 1 channels", "coloured"]),
    "channels last": (
        lambda: nn.Conv2d(3, 4, 3)(torch.zeros(1, 8, 8, 3)),
        ["was given 8", "x.permute(0, 3, 1, 2)"],
    ),
    "no batch, no channel": (
        lambda: nn.Conv2d(3, 4, 3)(torch.zeros(8, 8)),
        ["takes an input of 3D (unbatched) or 4D (batched)", "2 dimensions, [8, 8]", "unsqueeze(0)"],
    ),
    "batch norm 2d": (lambda: nn.BatchNorm2d(3)(X), ["takes an input of 4D, and was given 2 dimensions"]),
    "batch norm channels": (
        lambda: nn.BatchNorm2d(3)(torch.zeros(2, 4, 5, 5)),
        ["built for 3 channels and was given 4"],
    ),
    "layer norm": (lambda: nn.LayerNorm(3)(X), ["built for the last dimensions [3] and was given [2, 4]"]),
    "lstm": (lambda: nn.LSTM(4, 4)(torch.zeros(2, 3, 5)), ["takes 4 features per step and was given 5"]),
    "view": (lambda: X.view(3, 3), ["8 values cannot be laid out as [3, 3]", "x.flatten(1)"]),
    "view of a transpose": (lambda: torch.zeros(3, 4).t().view(12), [".reshape(...)"]),
    "broadcast": (lambda: X + torch.zeros(2, 3), ["sizes 4 and 3 meet in dimension 1"]),
    "expand": (lambda: X.expand(3, 4), ["sizes 3 and 2 meet in dimension 0"]),
    "cat": (lambda: torch.cat([X, torch.zeros(3, 5)], 1), ["joined along dimension 1", "2 and 3"]),
    "stack": (lambda: torch.stack([X, torch.zeros(3, 5)]), ["[2, 4] and [3, 5]", "collate_fn"]),
    "bmm": (lambda: torch.bmm(torch.zeros(1, 2, 3), torch.zeros(1, 4, 2)), ["needs [1, 3, n]", "got [1, 4, n]"]),
    "small image": (lambda: nn.Conv2d(3, 4, 5)(torch.zeros(1, 3, 2, 2)), ["shrunk to 2 x 2", "kernel of 5 x 5"]),
    "pooled away": (lambda: nn.MaxPool2d(4)(torch.zeros(1, 3, 2, 2)), ["shrink 3x2x2 to 3x0x0"]),
    "permute": (lambda: X.permute(0, 2, 1), ["takes 3 dimensions and the tensor has 2"]),
}

INDICES = {
    "embedding": (
        lambda: nn.Embedding(10, 3)(torch.tensor([11])),
        ["beyond the end of an embedding", "num_embeddings"],
    ),
    "advanced": (lambda: X[torch.tensor([5])], ["index 5", "dimension 0, which has 2 (0 to 1)"]),
    "gather": (lambda: torch.gather(X, 1, torch.tensor([[9], [0]])), ["index 9", "dimension 1, which has 4"]),
    "label": (lambda: F.cross_entropy(X, torch.tensor([0, 7])), ["label 7"]),
    "dimension": (lambda: X.sum(3), ["dimension 3 of a tensor that has dimensions -2 to 1"]),
}

MEMORY = {
    "tensor": (lambda: torch.empty(10**13), ["no room for 40,000.0 GB", "smaller batch"]),
    "array": (lambda: np.empty(10**13), ["no room for", "GB more"]),
}


def backward_twice() -> None:
    loss = (torch.ones(2, requires_grad=True) ** 2).sum()
    loss.backward()
    loss.backward()


def written_over() -> None:
    x = torch.ones(2, requires_grad=True).exp()
    x += 1
    x.sum().backward()


def inference_tensor() -> None:
    with torch.inference_mode():
        x = torch.ones(2)
    (x * torch.ones(2, requires_grad=True)).sum().backward()


GRADIENTS = {
    "no gradients": (lambda: X.sum().backward(), ["no gradients", "torch.no_grad()"]),
    "numpy": (lambda: nn.Linear(4, 3)(X).numpy(), ["still records gradients", "inference_mode()"]),
    "twice": (backward_twice, ["freed by the first backward()"]),
    "in place": (written_over, ["written over in place", "x = x + y"]),
    "inference tensor": (inference_tensor, ["made under torch.inference_mode()"]),
}


class Two(nn.Module):
    def forward(self, a: Any, b: Any) -> Any:
        return a


class Headless(nn.Module):
    pass


CALLS = {
    "array for tensor": (
        lambda: nn.Linear(4, 3)(np.zeros((2, 4), np.float32)),
        ["given a numpy.ndarray", "from_numpy"],
    ),
    "too many": (lambda: nn.Linear(4, 3)(X, X), ["Linear.forward takes 1 inputs and was given 2"]),
    "too few": (lambda: Two()(X), ["Two.forward needs 'b'"]),
    "no forward": (lambda: Headless()(X), ["Headless has no forward"]),
    "truth": (lambda: bool(X > 0), [".any() or .all()"]),
    "item": (lambda: X.item(), ["the tensor has 8"]),
    "flipped": (lambda: torch.from_numpy(np.zeros(3)[::-1]), ["np.ascontiguousarray"]),
}

MODES = {
    "batch of one": (
        lambda: nn.BatchNorm1d(3)(torch.zeros(1, 3)),
        ["input is [1, 3]", "model.eval()", "drop_last=True"],
    )
}


def load(state: dict[str, torch.Tensor]) -> None:
    nn.Linear(4, 3).load_state_dict(state)


STATE = nn.Linear(4, 3).state_dict()

WEIGHTS = {
    "missing": (lambda: load({"weight": STATE["weight"]}), ["1 keys are missing (bias)"]),
    "unexpected": (lambda: load({**STATE, "more": X}), ["1 keys have no place in the module (more)"]),
    "size": (
        lambda: load({**STATE, "weight": torch.zeros(5, 4)}),
        ["weight is [5, 4] in the file and [3, 4] in the module"],
    ),
    "data parallel": (
        lambda: load({f"module.{name}": value for name, value in STATE.items()}),
        ["2 keys of the state_dict carry the prefix 'module.'", "removeprefix('module.')"],
    ),
    "compiled": (
        lambda: load({f"module._orig_mod.{name}": value for name, value in STATE.items()}),
        ["prefix 'module._orig_mod.'", "mend=True"],
    ),
}


def saved(value: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


def from_cuda() -> io.BytesIO:
    """A checkpoint as a machine with a GPU writes it: its tensors name the device that they were on."""
    copied = io.BytesIO()
    with zipfile.ZipFile(saved({"w": torch.ones(2)})) as archive, zipfile.ZipFile(copied, "w") as out:
        for name in archive.namelist():
            data = archive.read(name)
            out.writestr(name, data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    copied.seek(0)
    return copied


PICKLES = {
    "whole module": (lambda: torch.load(saved(nn.Linear(2, 2)), weights_only=True), ["Linear", "model.state_dict()"]),
    "settings": (
        lambda: torch.load(saved({"args": argparse.Namespace()}), weights_only=True),
        ["holds argparse.Namespace", "weights_only=True refuses"],
    ),
    "lambda": (lambda: pickle.dumps(lambda: 1), ["<lambda>", "at the top of a module"]),
    "lock": (lambda: copy.deepcopy(__import__("threading").Lock()), ["_thread.lock cannot be pickled"]),
    "computed": (lambda: copy.deepcopy(nn.Linear(4, 3)(X)), ["result of a computation"]),
}


def cut_short() -> None:
    torch.load(io.BytesIO(saved({"w": torch.zeros(999)}).getvalue()[:900]), weights_only=True)


DEVICES = {
    "meta": (lambda: nn.Linear(4, 3)(X.to("meta")), ["two devices: cpu and meta", "register_buffer"]),
    "meta copy": (lambda: nn.Linear(4, 3, device="meta").to("cpu"), ["meta device", "to_empty"]),
}

KINDS = {
    "dtype": DTYPES,
    "shape": SHAPES,
    "index": INDICES,
    "memory": MEMORY,
    "gradient": GRADIENTS,
    "call": CALLS,
    "mode": MODES,
    "weights": WEIGHTS | {"cut short": (cut_short, ["cut short"])},
    "pickle": PICKLES,
    "device": DEVICES,
}
ROWS = [pytest.param(kind, *row, id=f"{kind}-{name}") for kind, rows in KINDS.items() for name, row in rows.items()]


@pytest.mark.parametrize(("kind", "fail", "words"), ROWS)
def test_it_is_explained_with_its_numbers(kind: str, fail: Callable[[], Any], words: list[str]) -> None:
    got = said(fail)
    text = f"{got.cause} | {got.remedy}"
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in: {text}"
    assert got.kind == kind
    assert got.remedy and got.evidence


@pytest.mark.skipif(torch.cuda.is_available(), reason="is raised only without CUDA")
@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (lambda: X.cuda(), "asks for a CUDA device"),
        (lambda: torch.zeros(2, device="cuda"), "asks for a CUDA device"),
        (lambda: torch.load(from_cuda(), weights_only=True), "saved from a CUDA device"),
    ],
)
def test_a_missing_gpu_is_explained(fail: Callable[[], Any], words: str) -> None:
    got = said(fail)
    assert words in got.cause and got.kind == "device"


def test_a_full_gpu_is_explained_from_its_message() -> None:
    message = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 512.00 MiB "
        "is free. Of the allocated memory 14.10 GiB is allocated by PyTorch"
    )
    got = explain(torch.OutOfMemoryError(message))
    assert got.cause == "the GPU has no room for 2.1 GB more (of 16.9 GB, 0.5 GB is free)"
    assert got.kind == "memory" and "smaller batch" in got.remedy


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_full_gpu_is_explained_when_it_happens() -> None:
    got = said(lambda: torch.empty(10**13, device="cuda"))
    assert got.kind == "memory" and "the GPU has no room for 40,000.0 GB more" in got.cause


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Linear(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def test_the_line_and_the_layer_are_named() -> None:
    got = said(lambda: Inner()(X))
    assert any("test_explain.py:" in line and "return self.body(x)" in line for line in got.evidence)
    assert "in layer body.1 (Linear(in_features=4, out_features=2, bias=True))" in got.evidence


def test_what_caused_a_wrapped_error_is_explained() -> None:
    def fail() -> None:
        try:
            nn.Linear(128, 10)(torch.zeros(32, 64))
        except RuntimeError as exc:
            raise ValueError("training failed") from exc

    assert "takes 128 features" in said(fail).cause


def test_an_error_of_this_package_explains_itself() -> None:
    got = explain(DataError("train.npz", "has no array 'x'", "name one so"))
    assert (got.kind, got.cause, got.remedy) == ("shipworthy", "train.npz: has no array 'x'", "name one so")


def test_an_unknown_error_is_said_to_be_unknown() -> None:
    def fail() -> None:
        raise LookupError("the moon is in the wrong house")

    got = said(fail)
    assert got.kind == "unknown"
    assert "none of the errors that are known" in got.cause
    assert "test_explain.py" in got.remedy
    assert "LookupError: the moon is in the wrong house" in str(got)
    assert explain(LookupError()).kind == "unknown"
