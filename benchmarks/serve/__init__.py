"""Serving, side by side: `make bench-serve`."""
