"""A package opened for use, without a server: `load(path).predict(...)`."""

from .answers import Answer
from .loading import load
from .predictor import Predictor

__all__ = ["Answer", "Predictor", "load"]
