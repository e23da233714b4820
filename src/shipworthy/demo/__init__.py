"""The whole way on real data: train, check, build, pack, serve, ask."""

from .story import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
