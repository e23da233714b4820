"""A package opened for use, without a server: `load(path).predict(...)`."""

from .answers import Answer, Row
from .loading import calibrate, load
from .predictor import Predictor

__all__ = ["Answer", "Predictor", "Row", "calibrate", "load"]
