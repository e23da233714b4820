"""The whole server as an operator starts it, asked by the public clients over both transports."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shipworthy.predict import load
from shipworthy.server import Server

tritonclient = pytest.importorskip("tritonclient")
import tritonclient.grpc as grpc_client  # noqa: E402
import tritonclient.http as http_client  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

TOKEN = "s" * 24
FLOWERS = np.random.default_rng(4).random((5, 4), dtype=np.float32)


def bearer() -> dict[str, str]:
    """A fresh one: the client adds headers of its own to it."""
    return {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def package(stored: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "iris.ship"
    shutil.copy(stored, copy)
    return copy


@pytest.fixture
def server(package: Path, tmp_path: Path) -> Iterator[Server]:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with Server(package, port=0, grpc_port=0, token_file=token) as running:
        yield running


def clients(server: Server) -> list[tuple[Any, Any]]:
    """Each module of the client library with a client of its."""
    return [
        (http_client, http_client.InferenceServerClient(server.url.removeprefix("http://"))),
        (grpc_client, grpc_client.InferenceServerClient(server.grpc_address)),
    ]


def flowers(module: Any) -> Any:
    tensor = module.InferInput("features", list(FLOWERS.shape), "FP32")
    tensor.set_data_from_numpy(FLOWERS)
    return tensor


def test_both_transports_answer_as_in_process(server: Server, package: Path) -> None:
    with load(package) as predictor:
        expected = predictor.run({"features": FLOWERS})["logits"]
    for module, client in clients(server):
        with client:
            assert client.is_server_ready()
            with pytest.raises(InferenceServerException) as caught:
                client.infer("iris", [flowers(module)])
            assert caught.value.status() in ("401", "StatusCode.UNAUTHENTICATED")
            answer = client.infer("iris", [flowers(module)], headers=bearer())
            assert np.allclose(answer.as_numpy("logits"), expected, rtol=1e-5)


def test_unload_and_load_under_requests(server: Server) -> None:
    """A model that is loaded anew while it is asked answers every request; one that is taken out is not found."""
    for module, client in clients(server):
        with client:
            failures: list[Exception] = []
            ended = threading.Event()
            asking = threading.Thread(target=_ask, args=(module, server, ended, failures))
            asking.start()
            for _ in range(3):
                client.load_model("iris", headers=bearer())
            ended.set()
            asking.join(20)
            assert failures == []
            client.unload_model("iris", headers=bearer())
            assert not client.is_model_ready("iris", headers=bearer())
            client.load_model("iris", headers=bearer())
            assert client.infer("iris", [flowers(module)], headers=bearer()).as_numpy("logits").shape == (5, 3)


def _ask(module: Any, server: Server, ended: threading.Event, failures: list[Exception]) -> None:
    with next(client for kind, client in clients(server) if kind is module) as client:
        while not ended.is_set():
            try:
                client.infer("iris", [flowers(module)], headers=bearer())
            except InferenceServerException as error:
                failures.append(error)


def test_a_package_that_is_refused_leaves_the_old_one(server: Server, package: Path) -> None:
    package.write_bytes(b"no package")
    for module, client in clients(server):
        with client:
            with pytest.raises(InferenceServerException, match="the reason is in the server's log") as caught:
                client.load_model("iris", headers=bearer())
            assert caught.value.status() in ("409", "StatusCode.FAILED_PRECONDITION")
            assert str(package) not in caught.value.message()
            assert client.infer("iris", [flowers(module)], headers=bearer()).as_numpy("logits").shape == (5, 3)
