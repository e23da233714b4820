"""Shipworthy takes a trained PyTorch model to monitored production, and lets it sail only on evidence."""
