"""HTTPS and gRPC, with a certificate and without."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
from lifecycle_cases import serving

from shipworthy.errors import MissingExtra, ServeError
from shipworthy.server import Server, Tls

ROW = {"features": [5.1, 3.5, 1.4, 0.2]}


@pytest.fixture(scope="module")
def authority() -> Any:
    return pytest.importorskip("trustme").CA()


@pytest.fixture(scope="module")
def tls(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return Tls(str(folder / "cert.pem"), str(folder / "key.pem"))


def trusting(authority: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_https(stored: Path, tls: Tls, authority: Any) -> None:
    with Server(stored, port=0, tls=tls) as server:
        assert server.url.startswith("https://127.0.0.1:")
        answer = httpx.post(server.url + "/predict", json=ROW, verify=trusting(authority))
        assert answer.status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url + "/livez")
        with pytest.raises(httpx.TransportError):
            httpx.get(server.url.replace("https", "http") + "/livez")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(old)
        with pytest.warns(DeprecationWarning):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url + "/livez", verify=old)


@pytest.mark.parametrize(
    "words",
    [pytest.param((), id="one worker"), pytest.param(("--workers", 2), id="two workers", marks=pytest.mark.full)],
)
def test_https_and_grpc_from_the_command_line(
    stored: Path, tls: Tls, authority: Any, tmp_path: Path, words: tuple[object, ...]
) -> None:
    grpc = pytest.importorskip("grpc")
    client = pytest.importorskip("tritonclient.grpc")
    options = ("--tls-cert", tls.cert, "--tls-key", tls.key, "--grpc-port", 0, *words)
    with serving(stored, *options) as server:
        assert {httpx.get(server.url + "/readyz", verify=trusting(authority)).status_code for _ in range(8)} == {200}
        address = next(line for line in server.lines if line.startswith("gRPC: ")).split()[1]
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        for _ in range(4):
            asked = client.InferenceServerClient(
                address, creds=credentials, ssl=True, channel_args=[("grpc.use_local_subchannel_pool", 1)]
            )
            assert asked.is_model_ready("iris")
            asked.close()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_files_that_are_no_certificate_and_key(tls: Tls, tmp_path: Path, authority: Any) -> None:
    with pytest.raises(ServeError, match="cannot be read"):
        Server("any", port=0, tls=Tls(tls.cert, str(tmp_path / "none")))
    (tmp_path / "words").write_text("no PEM")
    with pytest.raises(ServeError, match="do not fit"):
        Server("any", port=0, tls=Tls(str(tmp_path / "words"), tls.key))
    other = authority.issue_cert("localhost")
    (tmp_path / "other").write_bytes(other.private_key_pem.bytes())
    with pytest.raises(ServeError, match="do not fit"):
        Server("any", port=0, tls=Tls(tls.cert, str(tmp_path / "other")))


def test_a_key_with_a_password_is_refused_without_asking(tls: Tls, tmp_path: Path) -> None:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key = serialization.load_pem_private_key(Path(tls.key).read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "locked").write_bytes(locked)
    with pytest.raises(ServeError, match="do not fit"):
        Server("any", port=0, tls=Tls(tls.cert, str(tmp_path / "locked")))


def test_grpc_in_the_clear_drains_with_the_server(stored: Path) -> None:
    client = pytest.importorskip("tritonclient.grpc")
    with Server(stored, port=0, grpc_port=0) as server:
        assert server.grpc_address is not None
        asked = client.InferenceServerClient(server.grpc_address)
        assert asked.is_server_ready()
        asked.close()
    gone = client.InferenceServerClient(server.grpc_address)
    with pytest.raises(Exception, match="UNAVAILABLE"):
        gone.is_server_ready()
    gone.close()


def test_grpc_without_its_library(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "grpc" else real(name, *rest))
    with pytest.raises(MissingExtra, match=r"shipworthy\[grpc\]"):
        Server(stored, port=0, grpc_port=0)


def test_a_grpc_port_in_use(stored: Path) -> None:
    pytest.importorskip("grpc")
    with Server(stored, port=0) as server, pytest.raises(ServeError, match="is in use"):
        Server(stored, port=0, grpc_port=int(server.url.rsplit(":", 1)[1]))
