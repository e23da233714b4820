"""Predictors over small functions in NumPy, and ways to ask them without a socket."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
from PIL import Image

from shipworthy.contract import Array, Arrays, Contract
from shipworthy.evidence import LatencyPoint
from shipworthy.package import Manifest, Requirements, Variant
from shipworthy.predict import Predictor
from shipworthy.runtime.protocol import OperatingPoint
from shipworthy.server import Settings, create_app

Run = Callable[[Arrays], dict[str, Array]]


class FunctionRunner:
    """A runner over a function of arrays."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.closed = False

    def kernels(self) -> tuple[()]:
        return ()

    def close(self) -> None:
        self.closed = True


def predictor(
    given: Mapping[str, Any], run: Run, *, streams: int = 1, batch: int = 8, root: Path = Path()
) -> Predictor:
    contract = Contract.model_validate({**given, "root": root})
    point = OperatingPoint(streams=streams, batch=batch)
    variant = Variant(
        id="numpy-fp32",
        precision="fp32",
        directory="variants/numpy-fp32",
        requires=Requirements(engine="numpy"),
        points=(point,),
        latency=tuple(
            LatencyPoint(batch=size, p50_ms=0.1, p99_ms=0.2, runs=1) for size in (1, 2, 4, 8) if size <= batch
        ),
        tolerance={},
    )
    manifest = Manifest(
        name=contract.name,
        created="2026-01-02T03:04:05Z",
        contract_digest=contract.digest,
        contract=contract,
        signature=contract.signature,
        variants=(variant,),
        files={},
    )
    package: Any = SimpleNamespace(manifest=manifest, contract=contract, root=root, digest="0" * 64, close=lambda: None)
    runner: Any = FunctionRunner(run)
    return Predictor(package, variant, runner, point=point, passed_over=[("torchscript-fp32", "carries code")])


DIGITS: dict[str, Any] = {
    "name": "digits",
    "inputs": {
        "image": {
            "dtype": "float32",
            "shape": ("batch", 1, 8, 8),
            "accept": {"kind": "image", "size": (8, 8), "mode": "L", "scale": 0.0625},
        }
    },
    "outputs": {"logits": {"dtype": "float32", "shape": ("batch", 10), "kind": "logits"}},
    "task": {"kind": "classification", "labels": tuple("0123456789")},
}
SENTIMENT: dict[str, Any] = {
    "name": "sentiment",
    "inputs": {name: {"dtype": "int64", "shape": ("batch", "tokens:1..16")} for name in ("ids", "mask")},
    "encode": {"text": {"kind": "text", "tokenizer": "tokenizer.json", "feeds": ("ids", "mask")}},
    "outputs": {"score": {"dtype": "float32", "shape": ("batch", 2), "kind": "logits"}},
    "task": {"kind": "classification", "labels": ("bad", "good")},
}
PRICES: dict[str, Any] = {
    "name": "prices",
    "inputs": {"row": {"dtype": "float32", "shape": ("batch", 2)}},
    "encode": {"house": {"kind": "record", "fields": ("rooms", "area"), "feeds": ("row",)}},
    "outputs": {"price": {"dtype": "float32", "shape": ("batch", 1)}},
    "task": {"kind": "regression"},
}

_WEIGHTS = np.random.default_rng(5).normal(scale=0.02, size=(64, 10)).astype(np.float32)


def digits_run(feeds: Arrays) -> dict[str, Array]:
    return {"logits": feeds["image"].reshape(-1, 64) @ _WEIGHTS}


def digits(**options: Any) -> Predictor:
    return predictor(DIGITS, options.pop("run", digits_run), **options)


def sentiment(root: Path) -> Predictor:
    def run(feeds: Arrays) -> dict[str, Array]:
        total = (feeds["ids"] * feeds["mask"]).sum(axis=1).astype(np.float32)
        return {"score": np.stack([-total, total], axis=1)}

    write_tokenizer(root)
    return predictor(SENTIMENT, run, root=root)


def prices() -> Predictor:
    def run(feeds: Arrays) -> dict[str, Array]:
        with np.errstate(over="ignore"):
            return {"price": feeds["row"].sum(axis=1, keepdims=True)}

    return predictor(PRICES, run)


def write_tokenizer(root: Path) -> None:
    """Words by white space: [UNK] 0, the 1, cat 2, sat 3."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2, "sat": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(root / "tokenizer.json"))


def client(*served: Predictor, settings: Settings | None = None, token: str | None = None) -> httpx.AsyncClient:
    """Asks an application over ASGI; what it raises after a 500 was sent is left to the server's log."""
    app = create_app({one.contract.name: one for one in served}, settings=settings, token=token)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)


def text64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem's fields, where the response is that problem in every respect."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:shipworthy:problem:{slug}"
    assert body["status"] == status
    assert body["title"] and body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body
