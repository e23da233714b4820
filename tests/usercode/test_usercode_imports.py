"""module:callable is found in the contract's folder, and what goes wrong on the way is said in words."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from shipworthy.contract import Contract
from shipworthy.errors import ModelError
from shipworthy.model import load_model
from shipworthy.usercode import resolve

Project = Callable[..., Contract]


def reason(contract: Contract) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(contract)
    return str(caught.value)


def test_two_projects_with_the_same_module_name_do_not_mix(project: Project) -> None:
    source = "import layers\ndef build_model():\n    return layers.build()\n"
    layers = "from torch import nn\ndef build():\n    return nn.Linear(4, {})\n"
    contracts = [project(source, folder=f"p{size}") for size in (2, 5)]
    for contract, size in zip(contracts, (2, 5), strict=True):
        (contract.root / "layers.py").write_text(layers.format(size))
    sizes = [load_model(contract).module.out_features for contract in (*contracts, contracts[0])]
    assert sizes == [2, 5, 2]


def test_sys_path_is_put_back_and_the_module_stays_importable(project: Project) -> None:
    contract = project()
    before = list(sys.path)
    loaded = load_model(contract)
    assert sys.path == before
    assert sys.modules["train"].Net is type(loaded.module)


def test_an_installed_module_is_never_forgotten(project: Project) -> None:
    import numpy

    contract = project()
    (contract.root / "numpy.py").write_text("raise RuntimeError('shadow')")
    load_model(contract)
    assert sys.modules["numpy"] is numpy


def test_a_factory_may_import_from_its_folder_when_it_is_called(project: Project) -> None:
    contract = project("def build_model():\n    import late\n    return late.net()\n")
    (contract.root / "late.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(4, 3)\n")
    assert load_model(contract).module is not None


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("trian:build_model", ["no module 'trian'", "did you mean 'train'"]),
        ("train:build_modle", ["no attribute 'build_modle'", "did you mean 'build_model'"]),
        ("train:Net.nothing", ["Net has no attribute 'nothing'"]),
    ],
)
def test_a_wrong_reference_is_named_with_the_nearest(project: Project, model: str, words: list[str]) -> None:
    text = reason(project(model=model))
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import torch_geometrix\n", ["imports 'torch_geometrix', which is not installed"]),
        ("def build_model(:\n", ["syntax error", "train.py:1"]),
        ("raise SystemExit(3)\n", ["ends the program", "__main__"]),
        ("x = 1 / 0\n", ["fails while it is imported: ZeroDivisionError at train.py:1"]),
        ("build_model = 3\n", ["gives a int, not an nn.Module"]),
        ("def build_model(): return 3\n", ["gives a int, not an nn.Module"]),
        ("def build_model(): return 1, 2\n", ["gives a tuple", "return the model alone"]),
        ("def build_model(): return {}\n", ["gives a dict", "give the file as weights"]),
        (
            "from torch import nn\ndef build_model(): return nn.Linear\n",
            ["gives the class Linear", "return an instance"],
        ),
        ("def build_model(width): return width\n", ["needs arguments (width)"]),
        ("def build_model():\n    return [][2]\n", ["raises when it is called: IndexError at train.py:2"]),
    ],
)
def test_a_factory_that_fails_is_explained(project: Project, source: str, words: list[str]) -> None:
    text = reason(project(source))
    assert all(word in text for word in words), text
    assert "Traceback" not in text


def test_a_reference_without_a_colon_is_explained(project: Project) -> None:
    with pytest.raises(ModelError, match="not of the form module:callable"):
        resolve("train.build_model", project().root)


def test_resolve_gives_any_object(project: Project) -> None:
    contract = project("class Box:\n    value = 7\n")
    assert resolve("train:Box.value", contract.root) == 7
