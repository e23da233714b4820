"""OpenVINO IR: the .xml says all but the weights, and is read as XML, without OpenVINO."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from ...contract import TensorSpec
from ...errors import EngineError
from .description import Description, signature_of, spec, stored_signature


def describe_openvino(path: Path) -> Description:
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise EngineError(str(path), f"is no XML: {error}", "write it again") from error
    layers = root.find("layers")
    if root.tag != "net" or layers is None:
        raise EngineError(str(path), "is no OpenVINO IR", "name the .xml that openvino.save_model wrote")
    element = root.find("rt_info/shipworthy/signature")
    stored = stored_signature(None if element is None else element.get("value"), path)
    version = root.find("rt_info/Runtime_version")
    made_by = "" if version is None else f", written by {version.get('value', '').split('-')[0]}"
    return Description(
        stored or signature_of(_inputs(layers), _outputs(root, layers)),
        f"OpenVINO IR {root.get('version', '')}{made_by}",
        "\n".join(_lines(root)),
    )


def _inputs(layers: ET.Element) -> dict[str, TensorSpec | None]:
    found: dict[str, TensorSpec | None] = {}
    for layer in layers.iter("layer"):
        port = layer.find("output/port")
        if layer.get("type") == "Parameter" and port is not None:
            found[_name(port, layer)] = _spec(port)
    return found


def _outputs(root: ET.Element, layers: ET.Element) -> dict[str, TensorSpec | None]:
    """The ports that feed Result layers, which carry the names."""
    ports = {
        (layer.get("id"), port.get("id")): (port, layer)
        for layer in layers.iter("layer")
        for port in layer.iterfind("output/port")
    }
    results = {layer.get("id") for layer in layers.iter("layer") if layer.get("type") == "Result"}
    found: dict[str, TensorSpec | None] = {}
    for edge in root.iterfind("edges/edge"):
        if edge.get("to-layer") in results:
            port, layer = ports[edge.get("from-layer"), edge.get("from-port")]
            found[_name(port, layer)] = _spec(port)
    return found


def _name(port: ET.Element, layer: ET.Element) -> str:
    return (port.get("names") or layer.get("name") or "").split(",")[0]


def _spec(port: ET.Element) -> TensorSpec | None:
    sizes = [int(dim.text or -1) for dim in port.iterfind("dim")]
    precision = {"FP32": "f32", "FP16": "f16", "FP64": "f64", "BOOL": "boolean"}.get(port.get("precision", ""))
    return spec(precision or port.get("precision", "").lower(), [size if size >= 0 else None for size in sizes])


def _lines(net: ET.Element, indent: str = "") -> Iterator[str]:
    """One line per layer but constants; the bodies of a branch or loop follow it, indented."""
    layers = net.find("layers")
    if layers is None:
        return
    names = {layer.get("id"): layer.get("name") for layer in layers.iterfind("layer")}
    feeds: dict[str | None, list[str]] = {}
    for edge in net.iterfind("edges/edge"):
        feeds.setdefault(edge.get("to-layer"), []).append(str(names[edge.get("from-layer")]))
    for layer in layers.iterfind("layer"):
        if layer.get("type") == "Const":
            continue
        yield f"{indent}{layer.get('name')} = {layer.get('type')}({', '.join(feeds.get(layer.get('id'), []))})"
        for body in layer:
            if body.find("layers") is not None:
                yield f"{indent}  {body.tag}:"
                yield from _lines(body, indent + "    ")
