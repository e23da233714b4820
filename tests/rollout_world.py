"""Registries with versions that no package stands behind: enough for rollouts, and made in milliseconds."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from shipworthy.predict.ids import CHALLENGER, CHAMPION, Signer
from shipworthy.registry import Registry
from shipworthy.registry.tables import models, packages, versions
from shipworthy.rollout.observed import Assignments, Completions, Copies

KEY = bytes(range(32))
MODEL = "digits"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self, connection: object) -> datetime:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def make_registry(
    url: str | Path,
    *,
    model: str = MODEL,
    task: str = "classification",
    labels: Sequence[str] | None = ("a", "b", "c"),
    number: int = 3,
    champion: int | None = 1,
) -> Registry:
    """A registry whose model has versions 1, 2, ... `number`."""
    if isinstance(url, Path):
        shutil.copytree(_empty(), url)
    registry = Registry(url, who="tester")
    add_versions(registry, model, task, labels, range(1, number + 1))
    if champion is not None:
        registry.promote(f"{model}:{champion}")
    return registry


@functools.cache
def _empty() -> Path:
    """Migrations take longer than a test."""
    folder = Path(tempfile.mkdtemp(prefix="shipworthy-empty-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Registry(folder / "registry").close()
    return folder / "registry"


def add_versions(
    registry: Registry, model: str, task: str, labels: Sequence[str] | None, numbers: Sequence[int]
) -> None:
    manifest = json.dumps({"contract": {"task": {"kind": task, "labels": None if labels is None else list(labels)}}})
    with registry.database.write() as connection:
        if numbers[0] == 1:
            connection.execute(models.insert(), {"name": model, "next_number": numbers[-1] + 1})
        for number in numbers:
            digest = f"{model}-{number}".encode().hex().ljust(64, "0")
            connection.execute(packages.insert(), {"digest": digest, "manifest": manifest})
            row: dict[str, Any] = {"model": model, "number": number, "digest": digest, "created": BEGIN}
            row |= {"who": "tester", "contract_digest": "0" * 64, "metrics": {}, "tags": {}, "why": ""}
            connection.execute(versions.insert(), row)


def assigned(new: Sequence[bool], share: float = 0.5, digests: Sequence[int] | None = None) -> Assignments:
    keys = np.zeros(len(new), np.uint64) if digests is None else np.array(digests, np.uint64)
    return Assignments(keys, np.full(len(new), share), np.array(new, np.bool_))


def completed(
    new: Sequence[bool],
    share: float = 0.5,
    failed: Sequence[bool] | None = None,
    slow: Sequence[int] | None = None,
    digests: Sequence[int] | None = None,
) -> Completions:
    size = len(new)
    return Completions(
        np.zeros(size, np.uint64) if digests is None else np.array(digests, np.uint64),
        np.full(size, share),
        np.array(new, np.bool_),
        np.zeros(size, np.bool_) if failed is None else np.array(failed, np.bool_),
        np.full(size, -1, np.int8) if slow is None else np.array(slow, np.int8),
    )


def copies(
    pairs: Sequence[tuple[bytes, int, int]],
    *,
    agreeing: int = 0,
    worst: Sequence[float] | None = None,
    digests: Sequence[int] | None = None,
    timed: int = 0,
) -> Copies:
    """First those that agree, then pairs: the unique part of the id, and the words of both answers. `timed` of them ran
    on both versions, and were slow on neither."""
    size = agreeing + len(pairs)
    bounds = [0.0] * agreeing + list([1.0] * len(pairs) if worst is None else worst)
    return Copies(
        digests=np.zeros(size, np.uint64) if digests is None else np.array(digests, np.uint64),
        worst=np.array(bounds, np.float64),
        uniques=np.frombuffer(b"".join(unique for unique, _, _ in pairs), np.uint8).reshape(-1, 12),
        champion=np.array([old for _, old, _ in pairs], np.uint64),
        challenger=np.array([new for _, _, new in pairs], np.uint64),
        slow=np.zeros((timed, 2), np.bool_),
    )


def signed(
    row: dict[str, Any],
    *,
    version: int = 1,
    rollout: int = 0,
    new: bool = False,
    share: float = 0.0,
    key_digest: int = 0,
    model: str = MODEL,
    key: bytes = KEY,
) -> str:
    """The id of one prediction."""
    arm = CHALLENGER if new else CHAMPION
    signer = Signer(key, model, version, rollout=rollout, arm=arm if rollout else 255, share=share)
    return signer.ids([row], key_digest)[0].decode()
