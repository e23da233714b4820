"""What goes wrong before an MLflow server has answered; none is needed here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mlflow_cases import STORED, make_registry, make_ship
from typer.testing import CliRunner

from shipworthy.cli.app import app
from shipworthy.errors import InputError, RegistryError
from shipworthy.package import read_package
from shipworthy.predict.pyfunc import _load_pyfunc
from shipworthy.registry.mlflow_models import connection, incoming, outgoing, pull, push
from shipworthy.registry.mlflow_models.flavour import write_model
from shipworthy.registry.mlflow_models.source import Source

pytest.importorskip("mlflow")
yaml = pytest.importorskip("yaml")


def refusal(uri: str) -> RegistryError:
    with pytest.raises(RegistryError) as caught, connection.reach(uri):
        pytest.fail("it was reached")
    return caught.value


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A web server that gives everyone the same status and a page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>" + b"a page " * 999)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("uri", ["", "localhost:5000", "mlruns", "sqlite:///mlflow.db", "http://", "http://h:99999999"])
def test_what_is_no_address_is_refused_and_makes_no_folder(uri, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "is no address of an MLflow server" in refusal(uri).reason
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_given_up_at_once_and_no_password_shown() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    error = refusal(f"http://ann:secret@127.0.0.1:{port}")
    assert time.monotonic() - start < 30
    assert error.culprit == f"http://127.0.0.1:{port}"
    assert error.reason == "no server answers there"
    assert "mlflow server --host 127.0.0.1" in error.remedy
    assert "secret" not in str(error)


def test_a_server_that_is_silent_is_given_up(monkeypatch) -> None:
    monkeypatch.setitem(connection._FIRST_QUESTION, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "did not answer in time" in refusal(f"http://127.0.0.1:{silent.getsockname()[1]}").reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, "does not answer as an MLflow server"),
        (404, "does not answer as an MLflow server"),
        (500, "does not answer as an MLflow server"),
        (401, "does not let you in"),
        (403, "does not let you in"),
    ],
)
def test_another_server_is_told_from_mlflow(status, reason) -> None:
    with answering(status) as uri:
        error = refusal(uri)
    assert reason in error.reason
    assert len(str(error)) < 700


def test_what_it_sets_for_mlflow_s_client_is_taken_back_and_what_users_set_stays(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", raising=False)
    before = dict(os.environ)
    with connection._settings(connection._PATIENCE):
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
        assert os.environ["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"] == "1"
        with connection._settings(connection._FIRST_QUESTION):
            assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"
    assert dict(os.environ) == before


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_mlflow_is_imported_only_when_it_is_used() -> None:
    done = run(
        "import sys, shipworthy.registry.mlflow_models, shipworthy.cli.app, shipworthy.predict.pyfunc;"
        "print([name for name in ('mlflow', 'requests') if name in sys.modules])"
    )
    assert done.stdout == "[]\n", done.stderr


def test_without_mlflow_it_says_which_extra_is_missing(tmp_path) -> None:
    with make_registry(tmp_path / "registry") as registry:
        registry.register(make_ship(tmp_path), aliases=["champion"])
    command = ["mlflow", "push", "digits", "--to", "http://127.0.0.1:9", "--registry", str(tmp_path / "registry")]
    done = run(
        "import sys; sys.modules['mlflow'] = None\n"
        f"from shipworthy.cli import main; sys.argv = ['shipworthy', *{command!r}]; main()"
    )
    assert done.returncode == 2
    assert "needs the Python package 'mlflow', which is not installed" in done.stderr
    assert "pip install 'shipworthy[mlflow]'" in done.stderr


def test_a_version_that_is_not_there_is_refused_before_a_server_is_asked(tmp_path) -> None:
    with make_registry(tmp_path / "registry") as registry:
        with pytest.raises(RegistryError, match="is no model of this registry"):
            push(registry, "digits", to="http://127.0.0.1:9")
        with pytest.raises(RegistryError, match="no server answers there"):
            pull(registry, "models:/digits/1", source="http://127.0.0.1:9")


@pytest.fixture
def model(tmp_path) -> Path:
    with read_package(make_ship(tmp_path)) as package:
        write_model(tmp_path / "model", package, run_id="0" * 32)
    return tmp_path / "model"


def test_the_model_that_is_written_is_one_for_mlflow(model) -> None:
    read = yaml.safe_load((model / "MLmodel").read_text())
    assert read["flavors"]["python_function"]["data"] == "digits.ship"
    assert read["flavors"]["shipworthy"]["format"] == 1
    with read_package(model / "digits.ship") as package:
        assert read["flavors"]["shipworthy"]["digest"] == package.digest
    assert (model / "requirements.txt").read_text().startswith("shipworthy[onnxruntime]>=")


def test_the_loader_answers_arrays_and_refuses_what_does_not_fit(model) -> None:
    with read_package(STORED) as package:
        case = package.golden.cases[0]
    function = _load_pyfunc(str(model / "digits.ship"), {"allow_code": False})
    with function.get_raw_model() as predictor:
        by_name = function.predict(dict(case.inputs))["logits"]
        np.testing.assert_allclose(by_name, case.outputs["logits"], atol=predictor.variant.tolerance["logits"])
        np.testing.assert_array_equal(function.predict(case.inputs["features"])["logits"], by_name)
        with pytest.raises(InputError, match="expected arrays by name: features, got list"):
            function.predict([[1.0, 2.0, 3.0, 4.0]])
        with pytest.raises(InputError, match="the model has no parameters, got temperature"):
            function.predict(dict(case.inputs), {"temperature": 1})
        with pytest.raises(InputError):
            function.predict({"features": case.inputs["features"][:, :2]})


def test_an_alias_that_none_here_can_be_called_is_left_out(tmp_path, monkeypatch) -> None:
    """MLflow takes nearly any; the others follow all the same."""
    ship = make_ship(tmp_path)
    found = Source("models:/digits/1", "mlflow-artifacts:/1", None, 1, ("2024-best", "_x", "canary", "champion"))
    monkeypatch.setattr(incoming, "reach", lambda uri: nullcontext(SimpleNamespace(shown=uri)))
    monkeypatch.setattr(incoming, "find", lambda server, uri: found)
    monkeypatch.setattr(incoming, "_download", lambda server, source, folder: ship)
    with make_registry(tmp_path / "registry") as registry:
        pulled = pull(registry, "models:/digits/1", source="http://127.0.0.1:9", aliases=True)
        assert pulled.skipped == ("2024-best", "_x")
        assert [event.alias for event in pulled.moved] == ["canary", "champion"]
        assert registry.aliases("digits") == {"canary": 1, "champion": 1}
        again = pull(registry, "models:/digits/1", source="http://127.0.0.1:9")
        assert (again.skipped, again.moved) == ((), ()), "none was asked for"
    command = ["mlflow", "pull", "models:/digits/1", "--from", "http://127.0.0.1:9", "--aliases", "--json"]
    result = CliRunner().invoke(app, [*command, "--registry", str(tmp_path / "registry")])
    assert json.loads(result.stdout)["skipped"] == ["2024-best", "_x"], result.exception
    assert result.stderr == "left out, because a registry cannot have such an alias: 2024-best and _x\n"


def test_a_server_that_goes_away_during_a_push_hides_no_error(tmp_path, monkeypatch) -> None:
    asked = []

    class Client:
        def __getattr__(self, name: str) -> object:
            return lambda *a, **k: asked.append(name)

        def search_model_versions(self, *_: object, **__: object) -> list[object]:
            return []

        def create_run(self, *_: object, **__: object) -> object:
            return SimpleNamespace(info=SimpleNamespace(run_id="0" * 32))

        def log_batch(self, *_: object, **__: object) -> None:
            raise RegistryError("metrics", "are what went wrong first", "see why")

        def set_terminated(self, run_id: str, status: str) -> None:
            asked.append(status)
            raise ConnectionError("no server answers any more")

    server = SimpleNamespace(client=Client(), shown="http://127.0.0.1:9")
    monkeypatch.setattr(outgoing, "reach", lambda uri: nullcontext(server))
    monkeypatch.setattr(outgoing, "_experiment", lambda server, name: "1")
    with make_registry(tmp_path / "registry") as registry:
        registry.register(make_ship(tmp_path), aliases=["champion"])
        with pytest.raises(RegistryError, match="are what went wrong first"):
            push(registry, "digits", to="http://127.0.0.1:9")
    assert asked == ["create_registered_model", "FAILED"]
