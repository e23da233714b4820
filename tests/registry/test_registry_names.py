"""Names of versions, and what is a path instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipworthy.errors import RegistryError
from shipworthy.registry import Reference, Registry, locate, parse
from shipworthy.registry.names import ALIAS, MODEL

models = st.from_regex(MODEL, fullmatch=True)
aliases = st.from_regex(ALIAS, fullmatch=True)
numbers = st.integers(1, 10**9 - 1)


def test_the_three_forms() -> None:
    assert parse("digits") == Reference("digits", alias="champion")
    assert parse("digits@challenger") == Reference("digits", alias="challenger")
    assert parse("digits:3") == Reference("digits", number=3)
    assert parse(parse("digits:3")) == Reference("digits", number=3)


@given(models, st.one_of(numbers, aliases))
def test_what_is_written_is_read_again(model: str, which: int | str) -> None:
    number, alias = (which, None) if isinstance(which, int) else (None, which)
    reference = Reference(model, number=number, alias=alias)
    assert parse(str(reference)) == reference


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = parse(text)
    except RegistryError:
        return
    assert text in (str(reference), reference.model)
    assert MODEL.fullmatch(reference.model)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Digits",
        "-digits",
        "digits:0",
        "digits:03",
        "digits:-1",
        "digits:x",
        "digits:",
        "digits@",
        "digits@3",
        "digits@a@b",
        "digits:1@a",
        "digits:1:2",
        "digits:1000000000",
        "digits\n",
        "digits:٣",
        "dig its",
        "a" * 64,
    ],
)
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(RegistryError, match=r"digits:3|start at 1|challenger"):
        parse(text)


def test_a_reference_has_a_number_or_an_alias() -> None:
    with pytest.raises(RegistryError, match="by one of them"):
        Reference("digits")
    with pytest.raises(RegistryError, match="by one of them"):
        Reference("digits", number=1, alias="champion")
    with pytest.raises(RegistryError, match="no version has"):
        Reference("digits", number=0)


def test_paths_stay_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for text in ("digits", "./iris", "packages/iris", "iris.ship", "iris.zip", str(tmp_path / "nothing")):
        assert locate(text) == Path(text)
    assert not (tmp_path / "default-registry").exists(), "a path needs no registry"


def test_names_are_pulled(registry: Registry, package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry.register(package(), aliases=["champion"])
    found = locate("digits", registry.url)
    assert found == locate("digits:1", registry.url) == registry.pull("digits@champion")
    monkeypatch.setenv("SHIPWORTHY_REGISTRY", registry.url)
    assert locate("digits") == found
    with pytest.raises(RegistryError, match="is no version; the newest is digits:1"):
        locate("digits:2", registry.url)
