"""Whether the statistics that are computed here for many streams at once are those of the libraries."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from . import online, windows
from .adwin import APPS, python
from .shifts import SHIFTS
from .streams import CAP, Scene, Table, draw, tabulate
from .subjects import SUBJECTS

STREAMS = 3
WINDOW = 500
PAGE_HINKLEY = 10.0
"""A threshold that is reached."""
TOLERANCE = 1e-4
"""Relative; kernels are computed in single precision here."""


def check(data: str) -> dict[str, float]:
    """The largest difference from each library, of streams with the first shift on half of the requests. Raises where
    one is not small."""
    shift = next(each for each in SHIFTS if data in each.subjects)
    table = tabulate(SUBJECTS[data](), shift)
    scene = draw(table, "agreement", 0.5, range(STREAMS))
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "evidently": _evidently(table, scene, Path(folder)),
            "frouros": _frouros(table, scene, Path(folder)),
            "river": _river(table, scene, Path(folder)),
        }
    for library, difference in found.items():
        if not difference <= TOLERANCE:
            raise ArithmeticError(f"{data}: {library} has other numbers, by {difference:g}")
    return found


def _asked(library: str, folder: Path, **given: object) -> dict[str, np.ndarray]:
    sent, came = folder / f"{library}-given.npz", folder / f"{library}-found.npz"
    np.savez(sent, **given)  # type: ignore[arg-type]
    subprocess.run([str(python(library)), str(APPS / f"{library}_app.py"), "agree", str(sent), str(came)], check=True)
    with np.load(came) as data:
        return dict(data)


def _evidently(table: Table, scene: Scene, folder: Path) -> float:
    """p-values and distances of each column of the first two windows of the first stream."""
    columns = table.scores[:, list(table.columns)]
    classes = [at for at, place in enumerate(table.columns) if table.signals[place].kind == "class"]
    theirs = _asked(
        "evidently",
        folder,
        reference_columns=columns[scene.references[0]],
        columns=columns[scene.streams[0]].reshape(-1, WINDOW, columns.shape[1])[:2],
        classes=np.array(classes, int),
    )
    apart = []
    for at, values in enumerate(columns.T):
        if at in classes:
            p, far = windows.class_p(scene, values, WINDOW), windows.jensen_shannon(scene, values, WINDOW)
        else:
            p = windows.ks_p(windows.ks_distances(scene, values, WINDOW), WINDOW)
            far = windows.wasserstein(scene, values, WINDOW)
        apart += [_difference(p[0, :2], theirs["p"][:, at]), _difference(far[0, :2], theirs["distances"][:, at])]
    return max(apart)


def _frouros(table: Table, scene: Scene, folder: Path) -> float:
    kernel = windows.Kernel(table.inputs, table.pool)
    theirs = _asked(
        "frouros",
        folder,
        reference_inputs=table.inputs[scene.references[0]],
        inputs=table.inputs[scene.streams[0]].reshape(CAP // WINDOW, WINDOW, -1),
        reference_watched=table.watched[scene.references[0]],
        watched=table.watched[scene.streams[0]],
        sigma=kernel.sigma,
    )
    sliding = online.sliding_ks(*windows.reference_shares(scene, table.watched))[0]
    known = ~np.isnan(theirs["sliding"])
    ours = sliding[: len(known)][known]
    return max(
        # A discrepancy is a difference of means of kernels, which are about 1.
        float(np.abs(kernel.distances(scene, WINDOW)[0] - theirs["mmd"]).max()),
        _difference(ours, -np.log10(theirs["sliding"][known])),
    )


def _river(table: Table, scene: Scene, folder: Path) -> float:
    """First alarms, which are the same or not."""
    watched = table.watched[scene.streams]
    theirs = _asked("river", folder, watched=watched, page_hinkley=PAGE_HINKLEY)
    hinkley = online.page_hinkley(watched) > PAGE_HINKLEY
    surprised = online.kswin(watched[:, :1000]) >= 4
    pairs = ((hinkley, theirs["page_hinkley"]), (surprised, theirs["kswin"]))
    return float(
        max(
            np.abs(np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, alarm.shape[1] + 1) - first).max()
            for alarm, first in pairs
        )
    )


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Relative, but for what is next to nothing."""
    return float((np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-9)).max())
