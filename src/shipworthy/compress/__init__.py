"""Make a model smaller and faster: quantize, prune, distill. Each returns what it made and a frozen report."""

from .methods import AccuracyAware, Distill, Dynamic, Qat, Static, Structured, Training, Unstructured

__all__ = ["AccuracyAware", "Distill", "Dynamic", "Qat", "Static", "Structured", "Training", "Unstructured"]
