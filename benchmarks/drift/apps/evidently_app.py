"""Run where Evidently is: its preset as it is."""

from __future__ import annotations

import json
import pickle
import sys
import time
import warnings

import numpy as np
import pandas as pd  # type: ignore[import-not-found,import-untyped]
from evidently import DataDefinition, Dataset, Report  # type: ignore[import-not-found]
from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]

DISTANCES = {"num_method": "wasserstein", "cat_method": "jensenshannon"}
"""What it takes by itself above 1,000 reference rows."""


def frame(columns: np.ndarray, classes: list[int]) -> pd.DataFrame:
    made = pd.DataFrame({f"c{at:02d}": column for at, column in enumerate(columns.T)})
    for at in classes:
        made[f"c{at:02d}"] = made[f"c{at:02d}"].astype(int).astype(str)
    return made


def drift(reference: pd.DataFrame, window: pd.DataFrame, classes: list[int], **methods: str) -> list[float]:
    """The value of each column: a p-value, or a distance."""
    named = [f"c{at:02d}" for at in classes]
    definition = DataDefinition(
        numerical_columns=[name for name in reference.columns if name not in named], categorical_columns=named
    )
    sides = [Dataset.from_pandas(each, data_definition=definition) for each in (window, reference)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Report([DataDriftPreset(**methods)]).run(*sides).dict()
    found = {
        metric["config"]["column"]: float(metric["value"]) for metric in made["metrics"] if "column" in metric["config"]
    }
    return [found[name] for name in reference.columns]


def agree(given: str, found: str) -> None:
    """Values of the columns of windows [windows, n, columns], by p-values and by distances: [windows, columns]."""
    with np.load(given) as data:
        classes = data["classes"].tolist()
        reference = frame(data["reference_columns"], classes)
        windows = [frame(window, classes) for window in data["columns"]]
    p = [drift(reference, window, classes) for window in windows]
    distances = [drift(reference, window, classes, **DISTANCES) for window in windows]
    np.savez(found, p=np.array(p), distances=np.array(distances))


def cost(given: str) -> None:
    with np.load(given) as data:
        classes = data["classes"].tolist()
        reference, stream = frame(data["reference_columns"], classes), frame(data["columns"], classes)
    found = {}
    for window, methods in ((100, {}), (500, {}), (500, DISTANCES)):
        part = stream[:window].copy()
        began = time.perf_counter()
        drift(reference, part, classes, **methods)
        spent = (time.perf_counter() - began) / window * 1e6
        held = len(pickle.dumps((reference, part))) / 1e3
        for name in ["distances"] if methods else ["half of the columns", "any column"]:
            found[f"Evidently, {name}, {window}"] = (spent, held)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    {"agree": agree, "cost": cost}[sys.argv[1]](*sys.argv[2:])
