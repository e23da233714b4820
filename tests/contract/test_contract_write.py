"""Writing, and the reference of all settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from contract_cases import DIGITS, NET

from shipworthy.contract import Contract, Reference, Strict, accept, contract_toml, parse_contract, spec
from shipworthy.contract.positions import Positions
from shipworthy.contract.reference import HEADING, rewritten, settings_markdown
from shipworthy.contract.settings import documentation, settings

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"


def test_text_reads_well() -> None:
    text = contract_toml(parse_contract(tomllib.loads(DIGITS)))
    assert text.startswith('name = "digits"\nmodel = "train:build_model"\n\n[inputs.image]\ndtype = "float32"\n')
    assert 'accept = { kind = "image", size = [8, 8], mode = "L", scale = 0.0625 }' in text
    assert "[target]" not in text, "defaults are left out"


def test_long_lists_are_wrapped() -> None:
    labels = [f"class number {number}" for number in range(40)]
    text = contract_toml(parse_contract({**NET, "task": {"kind": "classification", "labels": labels}}))
    assert max(map(len, text.splitlines())) <= 120
    assert tomllib.loads(text)["task"]["labels"] == labels


def test_comments_stand_above_what_they_are_about() -> None:
    contract = parse_contract(tomllib.loads(DIGITS))
    text = contract_toml(contract, {("model",): "one\ntwo", ("task",): "three", ("task", "labels"): "four"})
    assert '# one\n# two\nmodel = "train:build_model"' in text
    assert "# three\n[task]\n" in text
    assert "# four\nlabels = [" in text
    assert parse_contract(tomllib.loads(text)) == contract


def test_digest_does_not_depend_on_the_folder() -> None:
    one = parse_contract(NET, root=Path("/one"))
    assert one.digest == parse_contract(NET, root=Path("/two")).digest
    assert one.digest != parse_contract({**NET, "name": "other"}).digest
    assert Contract.model_validate_json(one.model_dump_json()).digest == one.digest


def test_a_default_that_is_written_out_leaves_the_digest_as_it_is() -> None:
    plain = parse_contract(NET)
    assert parse_contract({**NET, "target": {"threads": plain.target.threads}}).digest == plain.digest
    assert parse_contract({**NET, "target": {"threads": plain.target.threads + 1}}).digest != plain.digest


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10min", 600), ("1.5h", 5400), ("2 min", 120), (None, None)]
)
def test_budget_in_seconds(text: str | None, seconds: float | None) -> None:
    assert parse_contract({**NET, "search": {"budget": text}}).search.budget_s == seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train:f", Reference("train", "f")),
        ("a.b:C.d", Reference("a.b", "C.d")),
        ("train.npz", None),
        ("a:b.npz", None),
        ("a:b:c", None),
        ("1a:b", None),
        ("train:", None),
        ("/data/x:y", None),
    ],
)
def test_references(text: str, expected: Reference | None) -> None:
    assert Reference.parse(text) == expected
    assert expected is None or str(expected) == text


def test_positions_in_a_text_of_every_form() -> None:
    text = """# a comment with = and [brackets]
a.b = 1 # one
"c d" = "x # no comment"
[e]
f = [ # begin
  1,
  { g = 2, h.i = [3,
     4] },
]
j = '''
line = 1
'''
[[k]]
l = 1
[[k]]
l = 1979-05-27 07:32:00
[k.m]
n = \"\"\"a\\\"\"\"\"\"\"
o.p = { }
"""
    found = Positions(text)
    expected = {
        ("a", "b"): 2,
        ("c d",): 3,
        ("e",): 4,
        ("e", "f"): 5,
        ("e", "f", 0): 6,
        ("e", "f", 1): 7,
        ("e", "f", 1, "h", "i", 1): 8,
        ("e", "j"): 10,
        ("k", 0): 13,
        ("k", 0, "l"): 14,
        ("k", 1): 15,
        ("k", 1, "l"): 16,
        ("k", 1, "m", "n"): 18,
        ("k", 1, "m", "o", "p"): 19,
    }
    assert tomllib.loads(text)["k"][1]["m"]["o"]["p"] == {}
    assert {path: found.line(path) for path in expected} == expected
    assert found.line(("e", "f", 7)) == 5, "what is not there has the line of what is around it"
    assert found.line(("z",)) is None


def test_every_setting_is_documented() -> None:
    assert len(settings()) > 40
    assert [setting.key for setting in settings() if not setting.doc] == []


def test_every_part_of_a_contract_is_documented() -> None:
    parts = {
        part
        for room in (spec, accept)
        for part in vars(room).values()
        if isinstance(part, type) and issubclass(part, Strict) and part.__module__ == room.__name__
    }
    assert {part.__name__ for part in parts} >= {"Contract", "InputSpec", "TextEncode", "SearchSpec"}
    undocumented = [
        f"{part.__name__}.{name}"
        for part in parts
        for name in ["", *part.model_fields]
        if not documentation(part).get(name)
    ]
    assert undocumented == []


def test_page_of_the_docs_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rewritten(page) == page, "run: python -m shipworthy.contract.reference docs/contract.md"
    assert all(f"`{setting.path[-1]}`" in settings_markdown() for setting in settings())


def test_page_without_the_heading_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match=HEADING):
        rewritten("another page")


def test_examples_of_the_docs_are_right(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 3
    for text in examples:
        assert parse_contract(tomllib.loads(text), root=tmp_path).inputs
