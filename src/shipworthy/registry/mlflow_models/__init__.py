"""MLflow in and out: a version as an MLflow model version with its evidence, and back.

A package crosses as the file that it is, so its digest is the same on both sides and is how each side knows it again.
MLflow is imported at the first use, because that takes a second."""

from .incoming import Fetched, Pulled, enter, fetch, pull
from .outgoing import Pushed, push

__all__ = ["Fetched", "Pulled", "Pushed", "enter", "fetch", "pull", "push"]
