"""The page of a model: complete, offline, safe with hostile words, and really drawn."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import view_cases

from shipworthy.errors import MissingExtra
from shipworthy.monitor.report import charts, histograms, pictures, render_html, sequence, words
from shipworthy.monitor.view import Point, View
from shipworthy.pages import templates

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
DRIFTING = view_cases.drifting()
SMALL = replace(DRIFTING, signals=DRIFTING.signals[:1], timeline=DRIFTING.timeline[::12])
"""With few pictures, which take a while."""


@pytest.fixture(scope="module", autouse=True)
def without_library(request: pytest.FixtureRequest) -> Iterator[None]:
    """To make the chart library and many pictures takes seconds."""
    if request.config.getoption("--full"):
        yield
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("shipworthy.monitor.report.page.vega", lambda: "/* the library */")
        patched.setattr("shipworthy.monitor.report.page.MOST_SIGNALS", 2)
        yield


@pytest.fixture(scope="module")
def page() -> str:
    return render_html([DRIFTING], {"3": view_cases.samples(DRIFTING)})


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_it_says_what_is_wrong_since_when_and_how_sure(page: str) -> None:
    text = text_of(page)
    assert "digits accuracy has fallen" in text
    assert "It is estimated to have begun at 2025-11-23 13:03 UTC; the alarm came 10 min later" in text
    for alarm in DRIFTING.alarms:
        assert alarm.id in text
        assert alarm.summary.removeprefix("digits:3 drifts: ") in text
    assert DRIFTING.promise is not None
    assert DRIFTING.promise.words in text
    for signal in DRIFTING.signals:
        assert signal.title in text
    for note in DRIFTING.notes:
        assert note in text


def test_an_estimate_is_called_one_and_rules_uncalibrated(page: str) -> None:
    text = text_of(page)
    assert "Without labels, an estimate" in text
    assert "Nothing is promoted or taken back by it" in text
    assert text.index("Uncalibrated") < text.index("population stability index")


def test_the_page_asks_no_other_host_for_anything(page: str) -> None:
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r'(?:src|href|action)\s*=\s*"(?!#|data:)', markup) == []
    assert re.findall(r"url\(|@import|https?://", markup) == []
    assert "default-src 'none'" in page


@pytest.mark.full
def test_the_chart_library_is_inside_once(page: str) -> None:
    assert page.count("vegaEmbed=") <= 2
    assert 500_000 < len(page) < 2_000_000


def test_hostile_words_stay_words() -> None:
    signal = replace(DRIFTING.signals[0], title=HOSTILE, name=HOSTILE)
    alarm = view_cases.alarm(summary=HOSTILE, why=HOSTILE, classes=(HOSTILE,))
    text = render_html([replace(SMALL, model=HOSTILE, signals=(signal,), alarms=(alarm,), notes=(HOSTILE,))])
    assert "<script>alert" not in text
    assert "<img src=x" not in text


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (view_cases.well(), "iris is as it was"),
        (view_cases.collecting(), "house is collecting its reference"),
        (replace(SMALL, quality=None), "digits has drifted far"),
        (replace(SMALL, clock="rows", quality=None), "It is estimated to have begun at row 1,763,903,000"),
        (replace(view_cases.well(), timeline=(), signals=()), "iris is as it was"),
        (
            replace(view_cases.well(), timeline=(Point(0.0, 1, (float("nan"),) * 2, 0.0, None),)),
            "iris is as it was",
        ),
    ],
    ids=["well", "collecting", "drift", "rows", "empty", "one point"],
)
def test_every_state_has_a_page(view: View, said: str) -> None:
    assert said in text_of(render_html([view]))


def test_versions_that_have_alarms_come_first() -> None:
    well = replace(view_cases.well(), model="digits", version="4", updated=DRIFTING.updated + 60)
    text = text_of(render_html([replace(well, signals=()), SMALL]))
    assert text.index("digits accuracy has fallen") < text.index("digits:4 is as it was")
    with pytest.raises(ValueError, match="needs a view"):
        render_html([])


def test_a_histogram_keeps_every_value() -> None:
    signal = DRIFTING.signals[2]
    found = histograms.bars(signal)
    for side, counts in (("reference", signal.reference), ("live", signal.live)):
        assert sum(bar["share"] for bar in found if bar["side"] == side) == pytest.approx(1.0), side
        assert sum(counts) > 0
    assert all(bar["low"] < bar["high"] for bar in found)
    beyond = [bar for bar in found if bar["what"].startswith("above")]
    assert [bar["side"] for bar in beyond] == ["live"]
    assert beyond[0]["share"] == signal.live[-2] / sum(signal.live)


@pytest.mark.parametrize("edges", [(), (1.0,), (1.0, 2.0)])
def test_a_histogram_of_few_edges_is_drawn(edges: tuple[float, ...]) -> None:
    counts = (1,) * (len(edges) + 2)
    signal = replace(DRIFTING.signals[0], edges=edges, reference=counts, live=counts)
    assert all(np.isfinite([bar["low"], bar["high"], bar["height"]]).all() for bar in histograms.bars(signal))
    assert charts.histogram(signal).to_dict()


def test_the_confidence_sequence_ends_where_the_view_says() -> None:
    quality = view_cases.quality()
    found = sequence.by_hour(quality)
    assert len(found) == len(quality.by_hour)
    assert found[-1][1:] == pytest.approx((quality.lower, quality.upper))
    widths = [upper - lower for _, lower, upper in found]
    assert widths[-1] < widths[0]
    assert sequence.by_hour(replace(quality, lower=quality.lower - 0.01)) == []


def test_a_picture_is_as_it_was_asked() -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    seen = pictures.pixels(image)
    assert seen is not None
    assert (seen.shape, seen.min(), seen.max()) == ((8, 8), 0, 255)
    import io

    for pixels in (seen, np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)):
        read = pillow.open(io.BytesIO(pictures.png(pixels)))
        assert np.array_equal(np.asarray(read), pixels)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 8, 8), (8, 8, 3)),
        ((8, 8), (8, 8)),
        ((8, 9, 1), (8, 9)),
        ((300, 400, 3), (75, 100, 3)),
        *(((shape), None) for shape in ((10,), (2, 8, 8), (1, 3, 3), (2, 2), (1, 1, 8, 8))),
    ],
)
def test_what_is_no_picture_is_written(shape: tuple[int, ...], expected: tuple[int, ...] | None) -> None:
    seen = pictures.pixels(np.zeros(shape, np.uint8))
    assert (None if seen is None else seen.shape) == expected


def test_samples_that_an_alarm_names_come_first(page: str) -> None:
    kept = view_cases.samples(DRIFTING)
    shown = pictures.chosen(DRIFTING, reversed(kept))
    assert [one.id for one in shown[:3]] == ["a1", "a2", "a3"]
    assert page.count("data:image/png;base64,") == len(shown) == 6
    record = replace(kept[0], feeds={"x": np.arange(12.0), "name": np.array("rose")})
    (row,) = pictures.chosen(replace(DRIFTING, alarms=()), [record])
    assert row.values == (("x", "0, 1, 2, 3, 4, 5, 6, 7 … (12 values)"), ("name", "rose"))


def test_a_png_has_its_checks() -> None:
    data = pictures.png(np.zeros((4, 4), np.uint8))
    assert data[12:16] == b"IHDR"
    assert int.from_bytes(data[29:33], "big") == zlib.crc32(data[12:29])


def test_spans_are_words() -> None:
    lasting = [words.span(DRIFTING, 0, seconds) for seconds in (5, 90, 3600, 5400, 864_000)]
    assert lasting == ["5 s", "1.5 min", "1 h", "1.5 h", "10 d"]


@pytest.mark.parametrize("module", ["altair", "jinja2"])
def test_a_missing_library_is_said_with_its_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    templates.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"shipworthy\[build\]"):
        render_html([DRIFTING])


@pytest.mark.full
def test_every_chart_is_valid_vega_lite() -> None:
    drawn = [charts.evidence(DRIFTING), charts.windows(DRIFTING), charts.quality(view_cases.quality())]
    drawn += [charts.shares(one) if one.classes else charts.histogram(one) for one in DRIFTING.signals]
    drawn += [charts.means(DRIFTING, place) for place in range(3)]
    for chart in drawn:
        assert chart is not None
        assert chart.to_dict(validate=True)["layer"]


@pytest.mark.full
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
    placed = re.findall(r'class="chart[^"]*" id="', page)
    assert len(re.findall(r'<svg[^>]*class="marks"', done.stdout)) == len(placed) > 8
    assert "could not be drawn" not in re.sub(r"<script>.*?</script>", "", done.stdout, flags=re.DOTALL)
