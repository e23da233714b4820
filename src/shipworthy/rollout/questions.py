"""What a version is asked, as far as labels are concerned: read from the manifest that the registry keeps."""

from __future__ import annotations

import json

from sqlalchemy import Connection, select

from ..registry.losses import error_scale
from ..registry.tables import packages, versions
from .losses import Question


class Questions:
    """The questions of versions, each read once. A version never changes."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Question] = {}

    def of(self, connection: Connection, model: str, version: int) -> Question | None:
        """None where there is no such version, or its package was freed."""
        if (model, version) not in self._known:
            question = _read(connection, model, version)
            if question is None:
                return None
            self._known[model, version] = question
        return self._known[model, version]


def _read(connection: Connection, model: str, version: int) -> Question | None:
    row = connection.execute(
        select(packages.c.manifest, versions.c.metrics)
        .join(versions, versions.c.digest == packages.c.digest)
        .where(versions.c.model == model, versions.c.number == version)
    ).first()
    if row is None:
        return None
    task = json.loads(row.manifest)["contract"].get("task", {})
    labels = task.get("labels")
    names = None if labels is None else tuple(labels)
    return Question(task.get("kind", "tensors"), names, own_scale=error_scale(row.metrics))
