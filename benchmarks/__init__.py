"""Benchmarks: each compares Shipworthy with its peers in one run."""
