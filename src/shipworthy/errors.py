"""The exceptions that Shipworthy raises for a user's or a host's fault.

* ShipworthyError
    * ContractError: a contract does not parse, or says something that cannot be
    * DataError: a data set is missing, unreadable, or does not fit the contract
    * ModelError: a model cannot be loaded
        * WeightsError: a state_dict does not fit the module
        * UnsafePickle: the file would execute code when read
    * ExportError: an exporter cannot turn the module into a graph
    * CompressError: a recipe could not be carried out
    * EngineError: an engine cannot load or run a graph
        * MissingExtra: a package that this use needs is not installed
    * InputError: what a caller sent does not fit the inputs; has one `Problem` per fault
        * UnansweredError: it fits, and the model's answer to it is not finite
    * MeasureError: a measurement ended without a result (crash, hang, memory)
    * PackageError: a package is refused
        * TamperedPackage: a byte, a file or a path is not what the manifest says
        * UnknownFormat: the package has a format number that this version cannot read
        * GoldenMismatch: a variant does not reproduce its golden answers on this host
        * NoUsableVariant: no variant of the package may or can run on this host
    * ServeError: a server cannot be started as asked
    * RegistryError: a registry cannot be reached, has not what was asked for, or refuses a change
        * Conflict: an alias names another version than the one who moves it believed
    * RolloutError: a rollout cannot be what was asked for
    * FeedbackError: a label, or what it is about, is refused
    * MonitorError: a model cannot be watched as asked, or there is nothing to see

Every one of them names the culprit, the reason and the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ShipworthyError(Exception):
    """Base of all: `culprit` is what is wrong, `reason` why, `remedy` what to do about it."""

    def __init__(self, culprit: str, reason: str, remedy: str = "") -> None:
        self.culprit = culprit
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{culprit}: {reason}" + (f"; {remedy}" if remedy else ""))


class ContractError(ShipworthyError):
    """A contract does not parse, or says something that cannot be."""


class DataError(ShipworthyError):
    """A data set is missing, unreadable, or does not fit the contract."""


class ModelError(ShipworthyError):
    """A model cannot be loaded."""


class WeightsError(ModelError):
    """A state_dict does not fit the module."""


class UnsafePickle(ModelError):
    """The file would execute code when read."""


class ExportError(ShipworthyError):
    """An exporter cannot turn the module into a graph."""


class CompressError(ShipworthyError):
    """A recipe could not be carried out."""


class EngineError(ShipworthyError):
    """An engine cannot load or run a graph."""


class MissingExtra(EngineError):
    """A package that this use needs is not installed."""

    def __init__(self, use: str, module: str, extra: str) -> None:
        self.module = module
        self.extra = extra
        super().__init__(
            use,
            f"needs the Python package {module!r}, which is not installed",
            f"install it with: pip install 'shipworthy[{extra}]'",
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of what a caller sent: which sample (0 for a single one), which field, and why."""

    sample_index: int
    field: str
    reason: str


class InputError(ShipworthyError):
    """What a caller sent does not fit the model's inputs; `problems` names every fault found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        super().__init__(f"sample {first.sample_index}, {first.field}", first.reason + more)


class UnansweredError(InputError):
    """What a caller sent fits, and the model's answer to it is not finite."""


class MeasureError(ShipworthyError):
    """A measurement ended without a result; `gate` says by what: `crash`, `hang` or `memory`."""

    def __init__(self, culprit: str, reason: str, remedy: str = "", *, gate: str = "crash") -> None:
        self.gate = gate
        super().__init__(culprit, reason, remedy)


class PackageError(ShipworthyError):
    """A package is refused."""


class TamperedPackage(PackageError):
    """A byte, a file or a path is not what the manifest says."""


class UnknownFormat(PackageError):
    """The package has a format number that this version cannot read."""


class GoldenMismatch(PackageError):
    """A variant does not reproduce its golden answers on this host."""


class NoUsableVariant(PackageError):
    """No variant of the package may or can run on this host."""


class ServeError(ShipworthyError):
    """A server cannot be started as asked."""


class RegistryError(ShipworthyError):
    """A registry cannot be reached, has not what was asked for, or refuses a change."""


class Conflict(RegistryError):
    """An alias names another version than the one who moves it believed."""


class RolloutError(ShipworthyError):
    """A rollout cannot be what was asked for."""


class FeedbackError(ShipworthyError):
    """A label, or what it is about, is refused."""


class MonitorError(ShipworthyError):
    """A model cannot be watched as asked, or there is nothing to see."""
