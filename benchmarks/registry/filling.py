"""A registry with many versions, each registered as a user would, from a package of its own."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.registry import small_packages

from shipworthy.registry import Registry

MODELS = 20


def model_named(number: int) -> str:
    return f"model-{number:02}"


class Packages:
    """As many different packages as are asked for; they share their graphs."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._made = 0

    def new(self, model: str) -> Path:
        self._made += 1
        return small_packages.make(self._work / f"package-{self._made}", name=model, card=f"package {self._made}\n")

    def each(self, count: int) -> Iterator[Path]:
        """One after the other over all models; each is removed when the next is asked for."""
        for number in range(count):
            package = self.new(model_named(number % MODELS))
            yield package
            shutil.rmtree(package)


def fill(registry: Registry, packages: Packages, count: int) -> None:
    """`count` versions over all models; each is the challenger for a while, and every tenth is promoted."""
    chance = random.Random(5)
    for package in packages.each(count):
        version = registry.register(package, aliases=["challenger"], tags={"run": str(chance.random())}, why="a run")
        if version.number % 10 == 1:
            registry.promote(version.name, why="better")
