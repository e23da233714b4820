"""A classifier of digits as a package that has a reference, and images with and without noise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shipworthy.contract import Array, Contract
from shipworthy.package import Package, read_package, write_package
from shipworthy.signals import Reference, fit, make_reference, save_reference

sys.path.append(str(Path(__file__).parent.parent / "rollout"))

import digit_packages

HALF = 500


def clean(seed: int = 0) -> Iterator[Array]:
    """Images float32 [64], one after another in random order, for ever; none of them made the reference's constants."""
    images = digit_packages.images()[0][HALF:]
    random = np.random.default_rng(seed)
    while True:
        yield from images[random.permutation(len(images))]


def noisy(seed: int = 0, by: float = 5.0) -> Iterator[Array]:
    """The same with Gaussian noise."""
    random = np.random.default_rng(seed)
    for image in clean(seed):
        yield (image + random.normal(scale=by, size=image.shape)).clip(0, 16).astype(np.float32)


def contract() -> Contract:
    return digit_packages.contract()


def answers(images: Array) -> Array:
    return digit_packages.trained().logits(images)


def reference() -> Reference:
    """Of images that are the same as those of `clean`, in distribution and in fact."""
    images, labels = digit_packages.images()
    first, rest = images[:HALF], images[HALF:]
    constants = fit(contract(), [({"image": first}, {"logits": answers(first)})])
    return make_reference(contract(), constants, [({"image": rest}, {"logits": answers(rest)}, labels[HALF:])])


def watched_package(folder: Path) -> Path:
    """Written into `folder`."""
    plain = digit_packages.package(folder.with_name(f"{folder.name}-plain"), digit_packages.trained())
    file = folder.with_name(f"{folder.name}.reference")
    save_reference(reference(), file)
    with read_package(plain) as package:
        return _with_reference(package, folder, file)


def _with_reference(package: Package, folder: Path, reference: Path) -> Path:
    variants = [(variant, package.root / variant.directory) for variant in package.manifest.variants]
    return write_package(
        folder,
        contract=package.contract,
        variants=variants,
        golden=package.golden,
        record=package.record,
        report_html="<!doctype html><title>digits</title><p>A perceptron.</p>\n",
        card="# digits\n\nA perceptron.\n",
        references={variants[0][0].id: reference},
    )
