"""Samples that two data sets share: what is measured on one is then known from the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from ..evidence import Finding
from .dataset import Dataset

_PAIRS = (
    ("holdout", "validation", "the proof on the holdout is then partly made on data that the search has seen"),
    ("holdout", "train", "the proof on the holdout is then partly made on data that was trained on"),
    ("holdout", "calibration", "the proof on the holdout is then partly made on data that was calibrated on"),
    ("validation", "train", "the search then prefers what remembers its training data"),
    ("validation", "calibration", "the search then prefers what was calibrated on the same data"),
)


def row_digests(dataset: Dataset) -> list[bytes]:
    """A digest of the inputs of each sample, in the data's order; equal where all of a sample's inputs are."""
    digests = []
    for chunk in dataset.chunks:
        head = b"".join(f"{name} {array.dtype} {array.shape[1:]};".encode() for name, array in chunk.inputs.items())
        for row in range(len(chunk)):
            digest = hashlib.blake2b(head, digest_size=16)
            for array in chunk.inputs.values():
                digest.update(array[row].tobytes())
            digests.append(digest.digest())
    return digests


def find_leaks(datasets: Mapping[str, Dataset]) -> Iterator[Finding]:
    """A warning for each pair of data sets, by their names in the contract, that have samples in common."""
    digests = {name: row_digests(dataset) for name, dataset in datasets.items()}
    for name, other, consequence in _PAIRS:
        if name not in digests or other not in digests:
            continue
        known = set(digests[other])
        shared = [row for row, digest in enumerate(digests[name]) if digest in known]
        if shared:
            yield Finding(
                rule="data-leak",
                severity="warning",
                where=f"data.{name}",
                why=f"{len(shared)} of its {len(digests[name])} samples (the first is sample {shared[0]}) are also in "
                f"data.{other}; {consequence}",
                remedy="take them out of one of the two",
            )
