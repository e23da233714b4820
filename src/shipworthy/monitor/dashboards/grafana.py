"""The panels as a dashboard of Grafana, in its JSON model (schema 39, of Grafana 10 and later)."""

from __future__ import annotations

import json
from typing import Any

from ...server.observe import families as server
from .. import families as the
from .panels import ROWS
from .queries import Panel, Query, Row

SCHEMA = 39
UID = "shipworthy-models"
_WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_RED, _GREEN = "red", "green"


def dashboard_json() -> str:
    """To be imported in Grafana, or provisioned; its source of data is a variable."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


def dashboard() -> dict[str, Any]:
    return {
        "uid": UID,
        "title": "Shipworthy: models",
        "description": "Serving, drift and quality of models. Promises and delays count scored requests.",
        "tags": ["shipworthy"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": [_alarms()]},
        "links": [],
        "panels": _panels(),
    }


def _variables() -> list[dict[str, Any]]:
    """Source of data, models, and their versions."""
    model = f"label_values({server.REQUESTS.name}, model)"
    version = f'label_values({server.REQUESTS.name}{{model=~"$model"}}, version)'
    source = {"name": "datasource", "label": "source", "type": "datasource", "query": "prometheus", "current": {}}
    return [source, _variable("model", model), _variable("version", version)]


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def _alarms() -> dict[str, Any]:
    """A mark on every picture from when an alarm was raised until it was acknowledged."""
    return {
        "name": "Alarms",
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": _RED,
        "expr": f'sum by (model, version, detector) ({the.ALARMS.name}{{model=~"$model", version=~"$version"}}) > 0',
        "step": "30s",
        "titleFormat": "{{model}}:{{version}}",
        "textFormat": "an alarm of the {{detector}} detector stands",
        "tagKeys": "model,version,detector",
    }


def _panels() -> list[dict[str, Any]]:
    """Row by row, from the left, with an id each."""
    made: list[dict[str, Any]] = []
    y = 0
    for row in ROWS:
        made.append(_row(row, len(made) + 1, y))
        x, y, lowest = 0, y + 1, y + 1
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y = 0, lowest
            made.append(_panel(panel, len(made) + 1, x, y))
            x, lowest = x + panel.width, max(lowest, y + panel.height)
        y = lowest
    return made


def _row(row: Row, number: int, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
    return {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    instant = panel.kind != "timeseries"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "targets": [_target(query, place, panel, instant) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        **({"transformations": _AS_TABLE} if panel.kind == "table" else {}),
    }


def _target(query: Query, place: int, panel: Panel, instant: bool) -> dict[str, Any]:
    return {
        "refId": "ABCDEFGH"[place],
        "datasource": _SOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "editorMode": "code",
        "instant": instant,
        "range": not instant,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _field(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": _GREEN, "value": None}]
    if panel.line is not None:
        steps.append({"color": _RED, "value": panel.line})
    field: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    field["color"] = {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"}
    field |= {key: value for key, value in (("min", panel.low), ("max", panel.high)) if value is not None}
    if panel.kind == "timeseries":
        field["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 8,
            "showPoints": "never",
            "spanNulls": False,
            "scaleDistribution": {"type": "log", "log": 10} if panel.log else {"type": "linear"},
            "thresholdsStyle": {"mode": "off" if panel.line is None else "dashed"},
        }
    return field


_REDUCED = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {
        "reduceOptions": _REDUCED,
        "orientation": "auto",
        "textMode": "value_and_name",
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
    },
    "bargauge": {
        "reduceOptions": _REDUCED,
        "orientation": "horizontal",
        "displayMode": "basic",
        "showUnfilled": True,
        "valueMode": "color",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}
_AS_TABLE = [{"id": "merge", "options": {}}]
