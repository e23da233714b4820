"""What is watched of a model: signals of answers and inputs, and the reference that live traffic is compared with.

Computed at build time and beside a server by the same code, in plain numpy."""

from .answers import classified
from .computing import Signals, fit, fits_outputs
from .file import read_reference, save_reference
from .reference import ENOUGH, FEWEST, MOST, Accepted, Reference, make_reference, watch
from .signal import Kind, Signal

__all__ = [
    "ENOUGH",
    "FEWEST",
    "MOST",
    "Accepted",
    "Kind",
    "Reference",
    "Signal",
    "Signals",
    "classified",
    "fit",
    "fits_outputs",
    "make_reference",
    "read_reference",
    "save_reference",
    "watch",
]
