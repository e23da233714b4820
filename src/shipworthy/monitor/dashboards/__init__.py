"""A Grafana dashboard and Prometheus alert rules, made from the tables of metrics."""

from __future__ import annotations

from pathlib import Path

from ...errors import MonitorError
from .grafana import dashboard_json
from .rules import rules_yaml

FILES = {"grafana.json": dashboard_json, "alerts.yaml": rules_yaml}

__all__ = ["FILES", "dashboard_json", "rules_yaml", "write"]


def write(folder: Path) -> list[Path]:
    """Writes both files into a folder, which is made where there is none. Raises MonitorError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, make in FILES.items():
            (folder / name).write_text(make(), encoding="utf-8")
    except OSError as error:
        raise MonitorError(str(folder), f"cannot be written: {error.strerror}", "give another folder") from None
    return [folder / name for name in FILES]
