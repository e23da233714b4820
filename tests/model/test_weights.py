"""state_dicts from every kind of file, those that do not fit, and the mends."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shipworthy.contract import Contract
from shipworthy.errors import ModelError, ShipworthyError, UnsafePickle, WeightsError
from shipworthy.model import load_model, load_weights

Project = Callable[..., Contract]


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    shapes = {"body.weight": (8, 4), "body.bias": (8,), "head.weight": (3, 8), "head.bias": (3,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def assert_same(got: Any, state: dict[str, torch.Tensor]) -> None:
    own = got.module.state_dict()
    assert set(own) == set(state)
    assert all(torch.equal(own[name], state[name]) for name in state)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "legacy", "lightning", "trainer"])
def test_every_kind_of_file_gives_the_same_weights(project: Project, state: dict[str, torch.Tensor], kind: str) -> None:
    name = "w.safetensors" if kind == "safetensors" else "w.pt"
    contract = project(weights=name)
    path = contract.path(name)
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "lightning":
        torch.save({"pytorch-lightning_version": "2.5.0", "epoch": 3, "state_dict": state}, path)
    elif kind == "trainer":
        torch.save({"model_state_dict": state, "optimizer": {"lr": 0.1}, "epoch": 1}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pt")
    assert_same(load_model(contract), state)


PREFIXES = ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod.net."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_known_prefix_is_named_and_mended_on_request(
    project: Project, state: dict[str, torch.Tensor], prefix: str
) -> None:
    contract = project(weights="w.pt")
    torch.save({prefix + name: value for name, value in state.items()}, contract.path("w.pt"))
    with pytest.raises(WeightsError) as caught:
        load_model(contract)
    assert f"4 of 4 keys carry the prefix {prefix!r}" in caught.value.reason
    assert "mend=True" in caught.value.remedy and "--mend" in caught.value.remedy
    loaded = load_model(contract, mend=True)
    assert loaded.mended == (prefix,)
    assert_same(loaded, state)


def test_a_compiled_submodule_is_mended(project: Project, state: dict[str, torch.Tensor]) -> None:
    contract = project(weights="w.pt")
    torch.save(
        {name.replace("body.", "body._orig_mod."): value for name, value in state.items()}, contract.path("w.pt")
    )
    loaded = load_model(contract, mend=True)
    assert loaded.mended == ("_orig_mod.",)
    assert_same(loaded, state)


def test_keys_outside_the_prefix_are_left_out_and_named(project: Project, state: dict[str, torch.Tensor]) -> None:
    contract = project(weights="w.ckpt")
    saved = {f"model.{name}": value for name, value in state.items()} | {"criterion.weight": torch.ones(3)}
    torch.save({"state_dict": saved}, contract.path("w.ckpt"))
    with pytest.raises(WeightsError, match=r"4 of 5 keys.*criterion\.weight"):
        load_model(contract)
    loaded = load_model(contract, mend=True)
    assert any("criterion.weight" in note for note in loaded.notes)
    assert_same(loaded, state)


def test_a_prefix_that_does_not_make_it_fit_is_no_mend(project: Project, state: dict[str, torch.Tensor]) -> None:
    contract = project(weights="w.pt")
    torch.save({f"module.{name}x": value for name, value in state.items()}, contract.path("w.pt"))
    for mend in (False, True):
        with pytest.raises(WeightsError, match="4 keys of the module are missing"):
            load_model(contract, mend=mend)


def test_weights_that_fit_are_not_mended(project: Project, state: dict[str, torch.Tensor]) -> None:
    contract = project(weights="w.pt")
    torch.save(state, contract.path("w.pt"))
    assert load_model(contract, mend=True).mended == ()


def test_what_does_not_fit_is_named(project: Project, state: dict[str, torch.Tensor]) -> None:
    contract = project(weights="w.pt")
    torch.save({**state, "head.weight": torch.zeros(5, 8), "tail.bias": torch.ones(1)}, contract.path("w.pt"))
    with pytest.raises(WeightsError) as caught:
        load_model(contract)
    assert "1 keys have no place in the module: tail.bias" in caught.value.reason
    assert "head.weight is [5, 8] in the file and [3, 8] in the module" in caught.value.reason


def test_the_nearest_name_is_offered(project: Project, state: dict[str, torch.Tensor]) -> None:
    contract = project(weights="w.pt")
    state["heads.weight"] = state.pop("head.weight")
    torch.save(state, contract.path("w.pt"))
    with pytest.raises(WeightsError, match=r"'heads\.weight' in the file looks like 'head\.weight'"):
        load_model(contract)


def test_a_prefix_that_the_module_has_is_named(project: Project, state: dict[str, torch.Tensor]) -> None:
    source = "from torch import nn\nclass W(nn.Module):\n    def __init__(s):\n        super().__init__()\n"
    source += "        s.inner = nn.Linear(4, 3)\n    def forward(s, x):\n        return s.inner(x)\nbuild_model = W\n"
    contract = project(source, weights="w.pt")
    torch.save(nn.Linear(4, 3).state_dict(), contract.path("w.pt"))
    with pytest.raises(WeightsError, match=r"module's keys begin with 'inner\.'"):
        load_model(contract)


def test_half_weights_are_cast_with_a_note(project: Project, state: dict[str, torch.Tensor]) -> None:
    contract = project(weights="w.pt")
    torch.save({name: value.half() for name, value in state.items()}, contract.path("w.pt"))
    assert load_model(contract).notes == ("weights stored as float16 were cast to float32",)


def test_a_module_built_on_meta_takes_the_weights(project: Project, net: str, state: dict[str, torch.Tensor]) -> None:
    source = net + "\ndef lean():\n    with torch.device('meta'):\n        return Net()\n"
    contract = project(source, model="train:lean", weights="w.pt")
    torch.save(state, contract.path("w.pt"))
    assert_same(load_model(contract), state)
    with pytest.raises(ModelError, match="4 of its parameters are on the meta device"):
        load_model(contract.model_copy(update={"weights": None}))


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1/0",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickled_module_is_refused_with_its_class(tmp_path: Path, zipped: bool, protocol: int) -> None:
    path = tmp_path / "whole.pt"
    torch.save(Whole(), path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    with pytest.raises(UnsafePickle) as caught:
        load_weights(path)
    assert f"whole module of class {Whole.__module__}.Whole" in caught.value.reason
    assert "torch.save(model.state_dict()" in caught.value.remedy


def test_a_module_inside_a_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "model": Whole()}, tmp_path / "c.pt")
    with pytest.raises(UnsafePickle, match="Whole"):
        load_weights(tmp_path / "c.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_executed(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "bomb.pt"
    torch.save({"w": torch.ones(1), "hook": Bomb()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafePickle, match="eval"):
        load_weights(path)


def test_a_plain_pickle_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UnsafePickle, match=r"plain pickle that would import builtins\.eval"):
        load_weights(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "neither a state_dict"),
        (b"PK\x03\x04 and then nothing that a zip would have", "neither a state_dict"),
        (b"\x80\x02}q\x00X", "damaged pickle"),
    ],
)
def test_what_is_no_model_file_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_weights(path)
    assert words in str(caught.value)


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    torch.save({"optimizer": {"lr": 0.1}}, tmp_path / "opt.pt")
    for name, words in (("list.pt", "holds a list"), ("opt.pt", "without a state_dict"), ("none.pt", "no such file")):
        with pytest.raises(ModelError, match=words):
            load_weights(tmp_path / name)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ModelError, match="damaged"):
        load_weights(tmp_path / "cut.safetensors")


def test_a_truncated_archive_is_damaged(tmp_path: Path) -> None:
    torch.save({"w": torch.randn(2000)}, tmp_path / "w.pt")
    data = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError):
        load_weights(tmp_path / "w.pt")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["zipped", "legacy", "safetensors"])
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path: Path, kind: str, effort: float) -> None:
    """Bytes changed and cut at random: never anything but a state_dict or an error of this package."""
    state = {"a.weight": torch.randn(5, 4), "a.bias": torch.randn(5)}
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zipped")
    whole = path.read_bytes()
    draw = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(int(6000 * effort)):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.randrange(len(data))] if draw.random() < 0.2 else data)
        try:
            load_weights(path)
            outcomes["read"] += 1
        except ShipworthyError as exc:
            assert exc.reason and exc.remedy
            outcomes["refused"] += 1
    assert all(outcomes.values()), outcomes
