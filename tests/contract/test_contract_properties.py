"""Whatever stands in a file, and whatever is done to a right one: a contract or a ContractError."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from contract_cases import DIGITS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipworthy.contract import contract_toml, parse_contract, read_contract
from shipworthy.contract.positions import Positions
from shipworthy.errors import ContractError

WORDS = st.sampled_from(
    [
        "name",
        "inputs",
        "x",
        "dtype",
        "shape",
        "batch",
        "float32",
        "task",
        "kind",
        "encode",
        "text",
        "record",
        "root",
        "labels",
        "limits",
        "search",
        "quantize",
        "qat",
        "classification",
        "accept",
        "image",
        "train:f",
        "a:1..2",
        "",
    ]
)
SCALARS = st.one_of(
    WORDS,
    st.text(max_size=5),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.datetimes(),
    st.dates(),
    st.integers(2**20_000, 2**20_001),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
TABLES = st.dictionaries(WORDS | st.text(max_size=3), VALUES, max_size=6)
RIGHT = tomllib.loads(DIGITS)


def taken_or_refused(mapping: Any) -> None:
    try:
        contract = parse_contract(mapping)
    except ContractError as error:
        assert error.reason
        return
    assert contract.inputs


@given(TABLES)
def test_any_mapping(mapping: dict[str, Any]) -> None:
    taken_or_refused(mapping)


@given(st.none() | st.integers() | st.text() | st.dictionaries(st.integers() | st.none(), st.integers()))
def test_anything_else(value: Any) -> None:
    with pytest.raises(ContractError):
        parse_contract(value)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A right contract with up to three values anywhere in it replaced, removed or added."""
    mapping = tomllib.loads(DIGITS)
    for _ in range(draw(st.integers(1, 3))):
        node: Any = mapping
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and draw(st.booleans()):
                node = node[key]
                continue
            match draw(st.sampled_from(["replace", "remove", "add"])):
                case "replace":
                    node[key] = draw(VALUES)
                case "remove":
                    del node[key]
                case "add" if isinstance(node, dict):
                    node[draw(WORDS)] = draw(VALUES)
                case "add":
                    node.append(draw(VALUES))
            break
    return mapping


@given(mutated())
@settings(max_examples=400)
def test_mutations_of_a_right_contract(mapping: dict[str, Any]) -> None:
    taken_or_refused(mapping)


@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.text("[]{}\"=.\n\\#,a1'", max_size=40).map(str.encode)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(data)
    with pytest.raises(ContractError):
        read_contract(path)


@pytest.mark.parametrize("seed", range(20))
def test_broken_bytes_of_a_right_file(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    path = tmp_path / "c.toml"
    for _ in range(50):
        data = bytearray(DIGITS.encode())
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(data))
            match generator.randrange(3):
                case 0:
                    data[place] = generator.randrange(256)
                case 1:
                    del data[place : place + generator.randint(1, 30)]
                case 2:
                    data[place:place] = generator.choice([b"\n", b'"', b"[", b"]", b"{", b"=", b"[[a]]\n", b"'''"])
        path.write_bytes(data)
        try:
            assert read_contract(path).root == tmp_path
        except ContractError as error:
            assert str(path) in error.culprit


def paths(node: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, value in pairs for found in [(*here, key), *paths(value, (*here, key))]]


@given(TABLES)
def test_every_key_of_a_text_has_its_line(mapping: dict[str, Any]) -> None:
    try:
        text = tomli_w.dumps(mapping)
        parsed = tomllib.loads(text)
    except ValueError:  # lone surrogates, years before 1000: no TOML has them
        return
    positions = Positions(text)
    assert all(path in positions for path in paths(parsed))


def names() -> st.SearchStrategy[str]:
    return st.from_regex(r"[a-z_]{1,8}|[a-z]\.[0-9]|é \"x\"", fullmatch=True)


@st.composite
def contracts(draw: st.DrawFn) -> dict[str, Any]:
    """Right contracts with every kind of setting."""
    finite = st.floats(1e-6, 1e9)
    labels = draw(st.lists(st.text(max_size=6), min_size=2, max_size=40, unique=True))
    fields = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5, unique=True))
    accept = {
        "kind": "image",
        "size": [8, 9],
        "mode": "RGB",
        "scale": draw(finite),
        "mean": draw(st.lists(st.floats(-5, 5), min_size=3, max_size=3)),
        "layout": "CHW",
    }
    parts: dict[str, Any] = {
        "name": draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)),
        "inputs": {
            "record": {"dtype": "float64", "shape": ["batch", len(fields)]},
            draw(names()): {"dtype": "float32", "shape": ["batch:1..64", 3, 8, "w:2.."], "accept": accept},
        },
        "task": {"kind": "classification", "labels": labels},
        "encode": {draw(names().map("r_{}".format)): {"kind": "record", "fields": fields, "feeds": ["record"]}},
        "limits": draw(st.fixed_dictionaries({}, optional={"p99_ms": finite, "size_mb": finite, "rss_mb": finite})),
        "target": {"objective": draw(st.sampled_from(["latency", "size"])), "threads": draw(st.integers(1, 64))},
        "search": {"seed": draw(st.integers(0, 2**32 - 1)), "prune": [0.0, draw(st.floats(0.1, 0.9))]},
        "data": draw(st.fixed_dictionaries({}, optional={"train": st.text(max_size=9), "validation": st.text()})),
    }
    parts["inputs"]["record"]["shape"][0] = "batch:1..64"
    return parts


@given(contracts())
def test_text_of_a_contract_reads_back_equal(parts: dict[str, Any]) -> None:
    contract = parse_contract(parts)
    text = contract_toml(contract)
    again = parse_contract(tomllib.loads(text))
    assert again == contract
    assert again.digest == contract.digest
    assert contract_toml(again) == text
