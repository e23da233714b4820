"""The report: complete for every verdict, offline, safe with hostile words, and really drawn."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_records import digits_contract, full_record, none_chosen, unmeasured
from rich.console import Console

from shipworthy.errors import MissingExtra
from shipworthy.evidence import (
    BuildRecord,
    Compression,
    Epoch,
    PrunedLayer,
    QuantizedOperation,
    ReferenceEvidence,
)
from shipworthy.pages import templates, vega
from shipworthy.select.report import chart_png, render_card, render_html, render_table

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> `code` | *bold*"
RECORDS = {"full": full_record, "none chosen": none_chosen, "unmeasured": unmeasured}


@pytest.fixture(scope="module", params=list(RECORDS))
def record(request: pytest.FixtureRequest) -> BuildRecord:
    return RECORDS[request.param]()


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(full_record(), digits_contract())


def terminal(record: BuildRecord, width: int = 80) -> str:
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as captured:
        console.print(render_table(record))
    return captured.get()


def test_the_page_has_every_candidate_with_its_verdict_and_reason(record: BuildRecord) -> None:
    text = render_html(record, digits_contract())
    for result in record.results:
        assert result.candidate.id in text
        assert result.reason in html.unescape(text)
        assert f"chip {result.verdict}" in text


def test_the_headline_says_what_ships(page: str) -> None:
    record = full_record()
    assert re.search(rf"<h1>{record.chosen} ships</h1>", page)
    assert html.escape(record.why) in page or record.why in html.unescape(page)
    assert "No candidate meets the contract" in render_html(none_chosen(), digits_contract())


def test_page_and_card_say_what_production_is_compared_with(page: str) -> None:
    record = full_record()
    kept = ReferenceEvidence(samples=1234, signals=22, scored=6, fitted_on="calibration", fitted=100, level=0.97)
    results = tuple(
        row.model_copy(update={"evidence": row.evidence.model_copy(update={"reference": kept})})
        if row.verdict == "chosen"
        else row
        for row in record.results
    )
    record = record.model_copy(update={"results": results})
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render_html(record, digits_contract())))
    assert f"{record.chosen} 1,234 22 6 100 samples of the calibration data 0.9700" in text
    assert "22 signals of 1,234 held-out samples" in render_card(record, digits_contract())
    assert "Reference for production" not in page


def test_the_page_asks_no_other_host_for_anything(page: str) -> None:
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r'(?:src|href|action)\s*=\s*"(?!#)', markup) == []
    assert re.findall(r"url\(|@import|https?://", markup) == []
    assert "default-src 'none'" in page


def test_the_chart_library_is_inside_once(page: str) -> None:
    assert page.count("vegaEmbed=") <= 2
    assert 500_000 < len(page) < 2_000_000


def test_hostile_words_stay_words() -> None:
    record = full_record()
    first = record.results[0].model_copy(update={"reason": HOSTILE})
    hostile = record.model_copy(update={"results": (first, *record.results[1:]), "why": HOSTILE, "name": HOSTILE})
    text = render_html(hostile, digits_contract())
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    card = render_card(hostile, digits_contract())
    assert "<script>" not in card
    assert r"\<script\>" in card


def test_the_card_is_complete(record: BuildRecord) -> None:
    card = render_card(record, digits_contract())
    assert card.startswith(f"# {record.name}\n")
    for result in record.results:
        assert f"| {result.candidate.id} | {result.verdict} |" in card
    assert "max_metric_drop: 0.01" in card
    assert "float32" in card
    assert ("shipworthy.load" in card) == (record.chosen is not None)


def test_the_card_names_what_executed_and_the_bound() -> None:
    card = render_card(full_record(), digits_contract())
    assert "## Evidence for openvino-fp32" in card
    assert "at most" in card
    assert "only with `--allow-code`" in card


def test_the_table_fits_a_narrow_terminal(record: BuildRecord) -> None:
    text = terminal(record)
    assert max(map(len, text.splitlines())) <= 80
    for result in record.results:
        assert result.candidate.id in text
        assert result.verdict in text


def test_the_table_gives_the_reason_of_each_refusal() -> None:
    text = " ".join(terminal(full_record(), width=200).split())
    for result in full_record().results:
        if result.verdict == "rejected":
            assert " ".join(result.reason.split())[:60] in text
            assert f"rejected by {result.gate}" in text


def test_a_picture_can_be_had_as_png() -> None:
    png = chart_png(full_record(), "tradeoff")
    assert png.startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no data for the picture 'speed'"):
        chart_png(unmeasured(), "speed")


@pytest.mark.parametrize("module", ["altair", "vl_convert", "jinja2"])
def test_a_missing_library_is_said_with_its_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vega.cache_clear()
    templates.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"shipworthy\[build\]"):
        render_html(full_record(), digits_contract())


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium (the Debian package chromium)")
def test_the_charts_are_drawn_in_a_browser(page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    command += ["--virtual-time-budget=15000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    drawn = re.findall(r'<svg[^>]*class="marks"', done.stdout)
    placed = re.findall(r'class="chart[^"]*" id="', page)
    assert len(drawn) == len(placed) > 4
    assert "mark-symbol" in done.stdout


def _compressed(record: BuildRecord) -> BuildRecord:
    """The record with a step that quantized, shared by two rows, and one that pruned and trained."""
    operations = (
        QuantizedOperation(name="conv.1", op="Convolution", precision="int8", sqnr_db=41.5),
        QuantizedOperation(name=HOSTILE, op="MatMul", precision="fp32", sqnr_db=3.25, reason="it drops too much"),
    )
    layer = PrunedLayer(
        name="body.0", kind="Conv2d", mask_shape=(8, 1, 3, 3), zeros=36, ones=36, neurons_kept=4, neurons_pruned=4
    )
    sizes = {"parameters_before": 1000, "parameters_after": 500, "bytes_before": 4000, "bytes_after": 1000}
    quantized = Compression(recipe="accuracy-aware", operations=operations, notes=("a note",), samples=64, **sizes)
    epochs = tuple(Epoch(number=n, loss=1 / n, validation=0.9 + n / 100, seconds=1.0) for n in (1, 2, 3))
    pruned = Compression(recipe="prune50", layers=(layer,), epochs=epochs, macs_before=900, macs_after=450, **sizes)
    steps = ((quantized,), (pruned, quantized))
    rows = [r.model_copy(update={"compression": s}) for r, s in zip(record.results, steps, strict=False)]
    return record.model_copy(update={"results": (*rows, *record.results[2:])})


def test_the_page_shows_what_each_recipe_did() -> None:
    text = render_html(_compressed(full_record()), digits_contract())
    assert HOSTILE not in text
    assert "What the recipes did" in text
    assert text.count("<summary><strong>accuracy-aware</strong>") == 1, "a shared step stands once"
    assert "it drops too much" in text
    for words in ("Kept in float", "body.0", "8 × 1 × 3 × 3", "a note", "4.00×"):
        assert words in text, words
    charts = json.loads(re.findall(r'<script type="application/json" id="charts">(.*?)</script>', text, re.DOTALL)[0])
    assert {"sensitivity", "training"} <= {name.rsplit("-", 1)[-1] for name in charts}


def test_a_build_that_compressed_nothing_has_no_such_section(page: str) -> None:
    assert "What the recipes did" not in page
