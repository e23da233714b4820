"""Registries with many versions, each registered as a user would, from a package of its own."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.registry import small_packages

from shipworthy.registry import Registry


class Packages:
    """As many different packages as are asked for; they share their graphs."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._made = 0

    def new(self, model: str) -> Path:
        self._made += 1
        return small_packages.make(self._work / f"package-{self._made}", name=model, card=f"package {self._made}\n")


def model_named(number: int) -> str:
    return f"model-{number:02}"


def fill(registry: Registry, packages: Packages, models: int, count: int) -> None:
    """`count` versions over all models, each made from the one before it, and champion until the next is."""
    chance = random.Random(5)
    for number in range(count):
        package = packages.new(model_named(number % models))
        before = number // models or None
        registry.register(
            package, aliases=["champion"], tags={"run": str(chance.random())}, why="a run", parent=before, git_commit=""
        )  # fmt: skip
        shutil.rmtree(package)
