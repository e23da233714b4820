"""Trying a new version beside the one that serves, and deciding by evidence which of them goes on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .keys import prediction_key
    from .labels import Labels
    from .losses import Loss
    from .observed import Observed
    from .record import Rollout
    from .remembering import Taken
    from .spec import Spec
    from .store import Rollouts

# `evidence` is mathematics and `spec` plain values: whoever needs only these must not wait for a database library.
_HOME = {
    "Labels": "labels",
    "Loss": "losses",
    "Observed": "observed",
    "Rollout": "record",
    "Rollouts": "store",
    "Spec": "spec",
    "Taken": "remembering",
    "prediction_key": "keys",
}

__all__ = ["Labels", "Loss", "Observed", "Rollout", "Rollouts", "Spec", "Taken", "prediction_key"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
