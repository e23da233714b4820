"""How a server is asked, and how its answer is read: each in the form that its users would choose."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from .models import Model
from .samples import Tensor

JSON = "application/json"
BYTES = "application/octet-stream"
_BOUNDARY = "shipworthy-benchmark-boundary"

Answer = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """A POST."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def wire(self, port: int) -> bytes:
        """As it is sent over HTTP/1.1, on a connection that stays open."""
        lines = {"host": f"127.0.0.1:{port}", **self.headers, "content-length": str(len(self.body))}
        head = f"POST {self.path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return head.encode() + b"\r\n" + self.body


@dataclass(frozen=True)
class Dialect:
    """Of one server and one model."""

    ask: Callable[[Model, Tensor], Request]
    """For one sample, without the dimension of the batch."""
    read: Callable[[Model, bytes, Mapping[str, str]], Answer]
    """The numbers [width] in an answer's body. The names of its headers are lower-case."""


def _features(model: Model, sample: Tensor) -> Request:
    return _json("/predict", {model.input: sample.tolist()})


def _features_of_batch(model: Model, sample: Tensor) -> Request:
    return _json("/predict", {model.input: [sample.tolist()]})


def _tensors(model: Model, sample: Tensor) -> Request:
    one = {
        "name": model.input,
        "shape": [1, *sample.shape],
        "datatype": _V2[model.dtype],
        "data": sample.ravel().tolist(),
    }
    return _json(f"/v2/models/{model.name}/infer", {"inputs": [one]})


def _binary_tensors(model: Model, sample: Tensor) -> Request:
    """The binary tensor extension of the Open Inference Protocol, both ways."""
    raw = sample.tobytes()
    one = {
        "name": model.input,
        "shape": [1, *sample.shape],
        "datatype": _V2[model.dtype],
        "parameters": {"binary_data_size": len(raw)},
    }
    wanted = {"name": model.output, "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [one], "outputs": [wanted]}, separators=(",", ":")).encode()
    headers = {"content-type": BYTES, "inference-header-content-length": str(len(head))}
    return Request(f"/v2/models/{model.name}/infer", head + raw, headers)


def _form(model: Model, sample: Tensor) -> Request:
    head = (
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="{model.input}s"; filename="{model.input}"\r\n'
        f"content-type: {BYTES}\r\n\r\n"
    )
    body = head.encode() + sample.tobytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return Request("/predict", body, {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"})


def _raw(path: str) -> Callable[[Model, Tensor], Request]:
    return lambda model, sample: Request(path, sample.tobytes(), {"content-type": BYTES})


def _json(path: str, value: object) -> Request:
    return Request(path, json.dumps(value, separators=(",", ":")).encode(), {"content-type": JSON})


def _read_probabilities(model: Model, body: bytes, headers: Mapping[str, str]) -> Answer:
    found = json.loads(body)["probabilities"]
    return np.array(list(found.values()) if isinstance(found, dict) else found, np.float32)


def _read_rows(model: Model, body: bytes, headers: Mapping[str, str]) -> Answer:
    return np.array(json.loads(body), np.float32).reshape(-1)


def _read_tensors(model: Model, body: bytes, headers: Mapping[str, str]) -> Answer:
    return np.array(json.loads(body)["outputs"][0]["data"], np.float32).reshape(-1)


def _read_binary_tensors(model: Model, body: bytes, headers: Mapping[str, str]) -> Answer:
    return np.frombuffer(body[int(headers["inference-header-content-length"]) :], np.float32)


def _read_raw(model: Model, body: bytes, headers: Mapping[str, str]) -> Answer:
    return np.frombuffer(body, np.float32)


def _read_nothing(model: Model, body: bytes, headers: Mapping[str, str]) -> Answer:
    """The empty application has no model, and whatever it says is right."""
    return np.full(model.width, np.nan, np.float32)


_V2 = {"float32": "FP32", "uint8": "UINT8"}

PROBABILITIES = Dialect(_features, _read_probabilities)
ROWS = Dialect(_features_of_batch, _read_rows)
TENSORS = Dialect(_tensors, _read_tensors)
BINARY_TENSORS = Dialect(_binary_tensors, _read_binary_tensors)
FORM = Dialect(_form, _read_rows)
EMPTY = Dialect(_features, _read_nothing)


def raw(path: str) -> Dialect:
    """The bytes of the array as the body, and those of the answer."""
    return Dialect(_raw(path), _read_raw)


def at_path(path: str, dialect: Dialect) -> Dialect:
    """The same, asked elsewhere."""
    return replace(dialect, ask=lambda model, sample: replace(dialect.ask(model, sample), path=path))
