"""Trying a new version beside the one that serves, and deciding by evidence which of them goes on."""
