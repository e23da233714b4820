"""The Python lines of docs/signals.md, run as they stand there, and the names that its tables have."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from signal_cases import both, classifier, contract, names

from shipworthy.signals import MOST, Reference, Signals, fit

PAGE = (Path(__file__).parents[2] / "docs" / "signals.md").read_text(encoding="utf-8")


def test_the_lines_run_and_print_what_they_say() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    said, scope = io.StringIO(), {"__name__": "page"}
    with contextlib.redirect_stdout(said):
        exec(compile(code, "docs/signals.md", "exec"), scope)
    assert f"# {said.getvalue().strip()}\n" in code
    reference = scope["reference"]
    assert isinstance(reference, Reference)
    assert reference.samples == 400 and f"{MOST:,}" in PAGE


def test_every_signal_is_in_a_table() -> None:
    for what in (
        classifier(inputs={"image": ["batch", 3, "height", "width"]}),
        contract(outputs={"y": ["batch", 12]}, task="embedding"),
        contract(inputs={"text": ["int64", "batch", "tokens"]}, outputs={"y": ["batch", 2, 9]}),
        contract(outputs={"y": ["batch", 3]}, task="multilabel", kind="logits"),
        contract(outputs={"y": ["batch"]}, task="regression"),
    ):
        for name in names(Signals(what, fit(what, [both(what, 40)]))):
            key = name.split(".")[-1]
            told = "probability.NAME" if name.startswith("probability") else "INPUT.0" if key.isdigit() else key
            told = "4" if key.startswith("direction") else told
            assert any(f"{before}{told}`" in PAGE for before in ("`", ".")) or f"`{told}" in PAGE, name


def test_what_is_not_bet_on_is_marked() -> None:
    what = classifier()
    signals = Signals(what, fit(what, [both(what, 40)]))
    (table,) = re.findall(r"\| classification \|.*?\| multilabel", PAGE, re.DOTALL)
    marked = {name.split(".")[0].lower() for name in re.findall(r"`([a-z.NAME]+)` \*w\*", table)}
    told = {name.split(".")[0] for name in names(signals, scored=False) if not name.startswith(("x.", "scores."))}
    assert marked == told
