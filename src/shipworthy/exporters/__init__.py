"""A module becomes a graph for each engine, and every graph is compared with eager at once."""

from .exporting import Exported, export, oracle_engine

__all__ = ["Exported", "export", "oracle_engine"]
