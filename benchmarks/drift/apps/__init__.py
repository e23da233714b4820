"""Run in the environments of the peers."""
