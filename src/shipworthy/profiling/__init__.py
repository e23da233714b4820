"""Where a model spends its time and memory: in PyTorch by operator, region and module, and in each engine by node."""

from .report import ProfileReport
from .run import profile

__all__ = ["ProfileReport", "profile"]
