"""What goes wrong between notebook and production, found before anything is exported."""

from .explanations import Explanation, explain
from .report import CheckReport
from .run import check, check_contract

__all__ = ["CheckReport", "Explanation", "check", "check_contract", "explain"]
