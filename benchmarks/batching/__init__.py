"""Batching by deadline against batching by fixed delay, in the simulator."""
