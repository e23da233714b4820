"""Promises that hold for the project as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import shipworthy

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))

HEAVY = ("torch", "onnxruntime", "openvino", "onnx", "PIL", "tokenizers", "altair", "pyarrow", "scipy", "sklearn")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_public_names_are_sorted_and_exist() -> None:
    assert shipworthy.__all__ == sorted(shipworthy.__all__)
    assert [name for name in shipworthy.__all__ if getattr(shipworthy, name, None) is None] == []


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        shipworthy.bild  # noqa: B018


def test_import_brings_no_engine() -> None:
    done = run(f"import shipworthy, sys; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "room", ["contract", "encode", "runtime", "package", "predict", "server", "signals", "monitor.monitor"]
)
def test_production_room_imports_no_engine(room: str) -> None:
    done = run(f"import shipworthy.{room}, sys; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_import_is_quick() -> None:
    def seconds(code: str) -> float:
        start = time.perf_counter()
        assert run(code).returncode == 0
        return time.perf_counter() - start

    # The interpreter's own start is taken off; the best of several runs is free of the machine's other work.
    extra = min(seconds("import shipworthy") for _ in range(5)) - min(seconds("pass") for _ in range(5))
    assert extra < 0.3


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_file_is_short_and_documented(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    assert not text.strip() or ast.get_docstring(tree), "a module says what it is for"
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > 60
    ]
    assert long == []


def test_rooms_import_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_python_version_and_torch_pin() -> None:
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert 'requires-python = ">=3.11' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_readme_is_filled_in_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert re.findall(r"\b[A-Z]{3,}_[A-Z]+\b", prose) == []
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "ARCHITECTURE.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
