"""A server as others see it: its token, its names, its certificate, its silence, and no way to its files."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trustme
from connection_cases import assert_refused, read_all, request
from server_cases import digits, prices

from shipworthy.contract import Arrays
from shipworthy.server import Server, create_app
from shipworthy.server.access import OPEN_PATHS
from shipworthy.server.sockets import Tls

TOKEN = "correct horse"
ROW = {"features": [5.1, 3.5, 1.4, 0.2]}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def over_asgi(app: Any, client: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(client, 50_000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def routes(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Method and path of every operation, also of those that the document leaves out."""
    found = [
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "parameters"
    ]
    return [*found, ("GET", "/docs"), ("GET", "/docs/swagger-ui.css"), ("GET", "/openapi.json"), ("GET", "/nothing")]


@pytest.mark.anyio
async def test_the_page_stands_in_no_other_page() -> None:
    """A click on what lies over it would be a click on it."""
    async with over_asgi(create_app({"prices": prices()})) as http:
        assert (await http.get("/docs")).headers["x-frame-options"] == "DENY"


@pytest.mark.anyio
async def test_every_route_but_health_needs_the_token() -> None:
    app = create_app({"prices": prices(), "digits": digits()}, token=TOKEN)
    async with over_asgi(app) as http:
        bearer = {"authorization": f"Bearer {TOKEN}"}
        found = routes((await http.get("/openapi.json", headers=bearer)).json())
        assert len(found) > 10
        for method, path in found:
            path = path.format(model="prices", model_name="prices", version="1", model_version="1", name="x")
            for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
                status = (await http.request(method, path, headers=given)).status_code
                assert (status == 401) == (path not in OPEN_PATHS), (method, path, status)
            status = (await http.request(method, path, headers=bearer)).status_code
            assert status != 401, (method, path)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v2/repository/models/prices/unload", "/v2/repository/models/prices/load"])
async def test_management_without_a_token_is_for_this_machine(path: str) -> None:
    app = create_app({"prices": prices()})
    async with over_asgi(app, "192.0.2.7") as http:
        for given in ({}, {"x-forwarded-for": "127.0.0.1"}, {"host": "127.0.0.1"}):
            assert (await http.post(path, headers=given)).status_code == 403
        assert (await http.post("/predict", json={"row": [1, 2]})).status_code == 200
    async with over_asgi(app) as http:
        for given in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"via": "1.1 proxy"}):
            assert (await http.post(path, headers=given)).status_code == 403
        assert (await http.post(path, headers={"host": "evil.example"})).status_code == 421
        assert (await http.post("/predict", json={"row": [1, 2]})).status_code == 200, "it is still served"


NAMES = (
    "../../{mark}",
    "..%2f..%2f{mark}",
    "%2e%2e%2f%2e%2e%2f{mark}",
    "%2Fetc%2F{mark}",
    "/etc/{mark}",
    "file:%2f%2f%2fetc%2f{mark}",
    "..%5c..%5c{mark}",
    "{mark}%00.ship",
    "~root%2f{mark}",
    "%7Bmodel%7D{mark}",
    "%ff%fe{mark}",
    "{mark}" + "x" * 5000,
)
MARK = "zzmarkzz"
TEMPLATES = (
    "/models/{name}",
    "/models/{name}/predict",
    "/models/{name}/versions/{name}/predict",
    "/docs/{name}",
    "/v2/models/{name}",
    "/v2/models/{name}/ready",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/stats",
    "/v2/models/{name}/versions/{name}",
    "/v2/models/{name}/versions/{name}/infer",
    "/v2/repository/models/{name}/load",
    "/v2/repository/models/{name}/unload",
    "/{name}",
)


class Touched:
    """Names with the mark that anything in this process asks the file system for, while it is `on`."""

    def __init__(self) -> None:
        self.on = False
        self.names: list[str] = []
        sys.addaudithook(self._audit)

    def note(self, *given: object) -> None:
        if self.on and any(MARK in str(one) for one in given):
            self.names.append(repr(given))

    def _audit(self, event: str, given: tuple[object, ...]) -> None:
        if event == "open" or event.startswith(("os.", "shutil.", "glob.", "pathlib.", "subprocess.", "import")):
            self.note(event, *given)


@pytest.fixture(scope="module")
def touched() -> Touched:
    return Touched()


def raw(url: str, method: str, path: str) -> int:
    """The status of a request whose path goes out as it stands."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as client:
        body = b'{"inputs": []}' if method == "POST" else b""
        client.sendall(request(method, path, body, b"content-type: application/json", b"connection: close"))
        return int(read_all(client).split()[1])


def test_no_path_from_a_client_reaches_the_file_system(
    stored: Path, touched: Touched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stat", "lstat", "readlink", "access"):
        if hasattr(os, name):
            real = getattr(os, name)
            monkeypatch.setattr(os, name, lambda *a, _real=real, **k: (touched.note(*a), _real(*a, **k))[1])
    with Server(stored, port=0) as server:
        touched.on = True
        try:
            for template in TEMPLATES:
                for name in NAMES:
                    path = template.format(name=name.format(mark=MARK))
                    for method in ("GET", "POST"):
                        assert raw(server.url, method, path) in (400, 403, 404, 405, 414), (method, path)
            assert raw(server.url, "GET", f"/models?file=/etc/{MARK}") == 200
        finally:
            touched.on = False
    assert touched.names == []
    touched.on = True
    assert not list(Path("/").glob(f"{MARK}/*"))
    touched.on = False
    assert touched.names, "what reaches the file system would be seen"


SECRET = "s3cret of /srv/models in the engine"


def failing(feeds: Arrays) -> dict[str, Any]:
    raise RuntimeError(SECRET)


@pytest.mark.anyio
async def test_failures_say_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app({"digits": digits(run=failing)})
    infer = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0.0] * 64}]}
    asked = [
        ("/predict", {"image": [[[0] * 8] * 8]}),
        ("/models/digits/predict", {"instances": [{"image": [[[0] * 8] * 8]}]}),
    ]
    asked.append(("/v2/models/digits/infer", infer))
    async with over_asgi(app) as http:
        for path, body in asked:
            caplog.clear()
            response = await http.post(path, json=body, headers={"x-request-id": "mine"})
            assert response.status_code == 500, (path, response.text)
            shown = response.text + str(response.headers)
            for inside in ("s3cret", "/srv", "RuntimeError", "Traceback", "site-packages", ".py"):
                assert inside not in shown
            assert response.headers["x-request-id"] == "mine"
            assert SECRET in caplog.text and "mine" in caplog.text, "the operator finds it in the log"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tls, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(str(key))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return Tls(str(chain), str(key)), trusting


@pytest.fixture(scope="module")
def encrypted(stored: Path, certificate: tuple[Tls, ssl.SSLContext], tmp_path_factory: Any) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN)
    with Server(stored, port=0, tls=certificate[0], token_file=file) as server:
        yield server


def test_tls(encrypted: Server, certificate: tuple[Tls, ssl.SSLContext]) -> None:
    assert encrypted.url.startswith("https://")
    with httpx.Client(verify=certificate[1], headers={"authorization": f"Bearer {TOKEN}"}) as http:
        assert http.post(encrypted.url + "/predict", json=ROW).status_code == 200
        large = {"instances": [ROW] * 5_000}
        assert len(http.post(encrypted.url + "/predict", json=large).json()["predictions"]) == 5_000
        assert http.get(encrypted.url + "/models", headers={"authorization": ""}).status_code == 401
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(encrypted.url + "/livez")
    with pytest.raises(httpx.TransportError):
        httpx.get(encrypted.url.replace("https", "http") + "/livez")


def test_old_versions_of_tls_are_refused(encrypted: Server, certificate: tuple[Tls, ssl.SSLContext]) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    host, port = encrypted.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain)


def test_limits_of_connections_hold_over_tls(encrypted: Server, certificate: tuple[Tls, ssl.SSLContext]) -> None:
    host, port = encrypted.url.removeprefix("https://").split(":")
    bomb = b"GET / HTTP/1.1\r\nhost: localhost\r\na: " + b"x" * 100_000
    plain = socket.create_connection((host, int(port)), timeout=10)
    with plain, certificate[1].wrap_socket(plain, server_hostname=host) as client:
        client.sendall(bomb)
        assert_refused(client.recv(65_536), 431, "headers-too-large")


def test_limits_of_connections_hold(stored: Path) -> None:
    with Server(stored, port=0) as server:
        host, port = server.url.removeprefix("http://").split(":")
        for data, status, slug in (
            (request("GET", "/", b"", b"a: " + b"x" * 40_000), 431, "headers-too-large"),
            (request("GET", "/" + "x" * 10_000), 414, "target-too-long"),
            (request("POST", "/predict", b"", b"transfer-encoding: gzip, chunked"), 400, "malformed"),
            (b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n", 400, "malformed"),
        ):
            with socket.create_connection((host, int(port)), timeout=10) as client:
                client.sendall(data)
                assert_refused(read_all(client), status, slug)
        assert httpx.get(server.url + "/models", headers={"host": "evil.example"}).status_code == 421
        assert (
            httpx.post(server.url + "/predict", json=ROW, headers={"origin": "http://evil.example"}).status_code == 403
        )
        assert httpx.post(server.url + "/predict", json=ROW).status_code == 200


def test_names_are_quoted_where_they_come_back() -> None:
    """What a caller sent is shown in ASCII and in part, so that it can forge neither a line of a log nor a page."""

    async def ask() -> httpx.Response:
        async with over_asgi(create_app({"prices": prices()})) as http:
            return await http.get("/models/" + quote("<script>\u202e\r\n\x1b[31m" + "x" * 3_000))

    response = asyncio.run(ask())
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) < 1_000
    assert all(31 < byte < 127 for byte in response.content)


def test_log_lines_cannot_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        app = create_app({"digits": digits(run=failing)})
        async with over_asgi(app) as http:
            path = "/models/digits/predict?x=" + quote("\nforged")
            await http.post(path, json={"image": [[[0] * 8] * 8]}, headers={"x-request-id": "a b"})

    with caplog.at_level(logging.ERROR):
        asyncio.run(ask())
    assert caplog.records and all("\n" not in record.getMessage() for record in caplog.records)
