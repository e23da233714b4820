"""Made-up views: a version in whose traffic noise has begun, one that is well, and one that collects a reference."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from shipworthy.monitor.evidence.quality import CONFIDENCE, interval
from shipworthy.monitor.samples import Sample
from shipworthy.monitor.view import (
    Alarm,
    Estimate,
    Moved,
    Point,
    Promise,
    Quality,
    Rule,
    SignalView,
    View,
)

NOON = 1_763_900_000.0
"""Seconds since 1970."""
BEGAN = NOON + 3000
RAISED = NOON + 3600

PROMISE = Promise(
    run_length=1e6,
    window=500,
    window_rate=0.001,
    nodes=1,
    reference=900,
    words="If scored requests are exchangeable with the reference, a false alarm comes after 1,000,000 scored requests "
    "on average or later, and one window of 500 in 1,000 errs, on average over references.",
)
MIDDLES = (6.0, 9.0, 4.9, 5.9, 1.0, 4.5, 0.0)
NUMBERS = (
    ("margin", "answers", "top two classes apart", "log-odds", 6.0, 2.0, -2.2),
    ("energy", "answers", "energy", "", 9.0, 2.5, -1.1),
    ("image.mean", "inputs", "brightness of image", "", 4.9, 0.9, 1.4),
    ("image.deviation", "inputs", "contrast of image", "", 5.9, 0.5, 0.6),
    ("image.distance", "inputs", "how unusual image is", "", 1.0, 0.3, 0.9),
)


def signal(name: str, about: str, title: str, unit: str, centre: float, spread: float, shift: float) -> SignalView:
    """A number whose median has moved by `shift`."""
    random = np.random.default_rng(len(name))
    reference, live = random.normal(centre, spread, 900), random.normal(centre + shift, spread * 1.15, 2000)
    edges = np.quantile(reference, np.linspace(0, 1, 51))
    edges[-1] = np.nextafter(edges[-1], np.inf)

    def counts(values: np.ndarray) -> tuple[int, ...]:
        return (*map(int, np.bincount(np.searchsorted(edges, values, "right"), minlength=len(edges) + 1)), 0)

    grid = np.linspace(edges[0], edges[-1], 200)
    gap = np.abs((reference[:, None] <= grid).mean(0) - (live[:, None] <= grid).mean(0)).max()
    return SignalView(
        name=name,
        kind="number",
        about=about,  # type: ignore[arg-type]
        title=title,
        unit=unit,
        edges=tuple(map(float, edges)),
        classes=(),
        reference=counts(reference),
        live=counts(live),
        reference_mean=float(reference.mean()),
        live_mean=float(live.mean()),
        distance=float(gap),
        psi=float(4 * gap**2),
        evidence=float(min(30.0, 0.02 * math.exp(9 * gap))),
        p_value=float(math.exp(-200 * gap**2)),
    )


def classes(moved: float) -> SignalView:
    """The predicted class, where a share `moved` has gone from 0 to 8."""
    shares = np.full(10, 0.1)
    live = shares.copy()
    live[0] -= moved
    live[8] += moved
    return SignalView(
        name="class",
        kind="class",
        about="answers",
        title="predicted class",
        unit="",
        edges=(),
        classes=tuple("0123456789"),
        reference=(*map(int, shares * 900), 0),
        live=(*map(int, live * 2000), 0),
        reference_mean=4.5,
        live_mean=4.5 + 8 * moved,
        distance=moved,
        psi=3 * moved,
        evidence=2.0 * moved,
        p_value=0.4,
    )


def missing() -> SignalView:
    return SignalView(
        name="image.out-of-range",
        kind="share",
        about="inputs",
        title="values of image out of range",
        unit="",
        edges=(),
        classes=("no", "yes"),
        reference=(900, 0, 0),
        live=(1960, 40, 0),
        reference_mean=0.0,
        live_mean=0.02,
        distance=0.02,
        psi=0.0,
        evidence=0.01,
        p_value=None,
    )


def timeline(signals: int, *, drifts: bool) -> tuple[Point, ...]:
    """Two hours, minute by minute."""
    random = np.random.default_rng(5)
    points = []
    level = 0.001
    for minute in range(120):
        at = NOON + 60 * minute
        changed = drifts and at >= BEGAN
        level = max(1e-4, level * float(np.exp(random.normal(0.62 if changed and level < 20 else 0.0, 0.35))))
        if not changed:
            level = min(level, 0.05)
        points.append(
            Point(
                at=at,
                scored=int(random.integers(80, 140)),
                means=tuple(
                    float(random.normal(middle + (1.0 if changed else 0.0), 0.1)) for middle in MIDDLES[:signals]
                ),
                evidence=level,
                log_p=(float(random.exponential(9.0 if changed else 0.4)) if minute % 5 == 4 else None),
            )
        )
    return tuple(points)


def alarm(**changes: object) -> Alarm:
    made = Alarm(
        id="digits-3-host1-1763903600-1",
        model="digits",
        version="3",
        node="host1",
        detector="sequential",
        raised=RAISED,
        began=BEGAN,
        scored=6120,
        severity="large",
        summary="digits:3 drifts: brightness of image: median 4.9 → 6.3 (+1.5 deviations) and 1 more signal",
        moved=(
            Moved(
                "image.mean",
                "brightness of image",
                "brightness of image: median 4.9 → 6.3 (+1.5 deviations)",
                0.55,
                14.0,
            ),
            Moved(
                "margin", "top two classes apart", "top two classes apart: median 6.0 → 3.8 (−1.1 deviations)", 0.4, 3.0
            ),
        ),
        classes=("8: 10 % → 16 %", "0: 10 % → 4 %"),
        samples=("a1", "a2", "a3"),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def quality() -> Quality:
    """Of thirteen hours, the last four of which are worse."""
    right = [(80 + 3 * hour, round((80 + 3 * hour) * (0.985 - 0.05 * max(0, hour - 8)))) for hour in range(13)]
    labels = sum(number for number, _ in right)
    counts = np.zeros(101)
    counts[0], counts[100] = sum(good for _, good in right), labels - sum(good for _, good in right)
    low, high = interval(counts)
    return Quality(
        metric="accuracy",
        labels=labels,
        value=counts[0] / labels,
        lower=1 - high,
        upper=1 - low,
        confidence=CONFIDENCE,
        level=0.975,
        below=True,
        by_hour=tuple(
            (NOON - 36_000 + 3600 * hour, number, good / number) for hour, (number, good) in enumerate(right)
        ),
    )


def drifting() -> View:
    signals = (*(signal(*row) for row in NUMBERS), classes(0.06), missing())
    return View(
        model="digits",
        version="3",
        variant="openvino-int8",
        nodes=("host1",),
        since=NOON,
        updated=NOON + 7200,
        requests=125_400,
        scored=13_180,
        unscored=4,
        promise=PROMISE,
        signals=signals,
        alarms=(
            alarm(detector="window", id="digits-3-host1-1763903700-2", raised=RAISED + 120, severity="moderate"),
            alarm(),
            alarm(
                id="digits-3-host1-1763800000-0",
                raised=NOON - 90_000,
                began=NOON - 93_000,
                severity="slight",
                summary="digits:3 drifts: contrast of image: median 5.9 → 6.1 (+0.3 deviations)",
                acknowledged=NOON - 80_000,
                who="anna@lab",
                why="new scanner, known",
            ),
        ),
        rules=(
            Rule("mean-confidence", 0.04, 0.1, False, "mean confidence 0.97 → 0.93"),
            Rule("psi", 0.61, 0.2, True, "largest PSI: brightness of image"),
            Rule("class-share", 0.06, 0.1, False, "8: 10 % → 16 %"),
        ),
        quality=quality(),
        estimate=Estimate(value=0.924, reference=0.981, scored=13_180),
        latency_ms={"p50": 1.2, "p95": 3.1, "p99": 4.0, "target": 10.0},
        timeline=timeline(len(signals), drifts=True),
        notes=("the reference has 900 samples",),
    )


def well() -> View:
    numbers = (signal(*row[:-1], 0.02) for row in NUMBERS[:2])
    return View(
        model="iris",
        version="1",
        variant="onnxruntime-fp32",
        nodes=("host1", "host2"),
        since=NOON,
        updated=NOON + 7200,
        requests=9000,
        scored=9000,
        unscored=0,
        promise=replace(PROMISE, nodes=2),
        signals=tuple(replace(one, evidence=0.02, p_value=0.6) for one in numbers),
        timeline=timeline(2, drifts=False),
    )


def collecting() -> View:
    return View(
        model="house",
        version="7",
        variant="onnxruntime-fp32",
        nodes=("host1",),
        since=NOON,
        updated=NOON + 60,
        requests=412,
        scored=412,
        unscored=0,
        promise=None,
        collecting=(412, 1000),
        notes=("the reference is taken from production",),
    )


def samples(view: View) -> list[Sample]:
    """Pictures of a blurred cross, as they would be kept of a model of images."""
    random = np.random.default_rng(3)
    found = []
    for number in range(6):
        image = np.zeros((1, 8, 8), np.float32)
        image[0, 3:5], image[0, :, 3:5] = 12, 14
        image += random.normal(0, 3, image.shape).astype(np.float32)
        values = np.zeros(len(view.signals))
        found.append(
            Sample(
                id=f"a{number}",
                at=RAISED + number,
                reason="drift",
                feeds={"image": image},
                outputs={"logits": random.normal(size=10)},
                values=values,
                priority=float(number),
            )
        )
    return found
