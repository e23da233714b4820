"""Who may ask: tokens, local names, pages of other sites, and what only an operator may do."""

from __future__ import annotations

import hmac
import multiprocessing
from typing import Any

import pytest

from shipworthy.server import access as subject
from shipworthy.server.access import Access, is_local_address, is_local_name, is_management, request_id

TOKEN = "correct horse"
LOCAL = ("127.0.0.1", 50_000)
REMOTE = ("192.0.2.7", 50_000)
LOAD = "/v2/repository/models/iris/load"


def headers(**given: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]


def status(access: Access, path: str = "/predict", method: str = "POST", client: Any = LOCAL, **given: str) -> int:
    problem = access.check(headers(**{"host": "localhost:8000", **given}), path, method, client)
    return problem.type.status if problem is not None else 200


@pytest.fixture
def secured() -> Access:
    return Access(TOKEN, loopback=False)


@pytest.fixture
def local() -> Access:
    return Access(None, loopback=True)


@pytest.fixture
def public() -> Access:
    return Access(None, loopback=False)


@pytest.mark.parametrize("client", [LOCAL, REMOTE, None])
@pytest.mark.parametrize("path", ["/predict", "/models", "/metrics", "/docs", "/openapi.json", "/v2", LOAD, "/no", ""])
def test_token_opens_every_route(secured: Access, path: str, client: Any) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert status(secured, path, method, client) == 401
        assert status(secured, path, method, client, authorization=f"Bearer {TOKEN}") == 200
        assert status(secured, path, method, client, host="anything", authorization=f"bearer {TOKEN} ") == 200


@pytest.mark.parametrize(
    "value",
    [
        "",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer{TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer ",
        "Bearer \u00ff",
        f"Bearer {TOKEN}, Bearer other",
    ],
)
def test_wrong_tokens(secured: Access, value: str) -> None:
    assert status(secured, authorization=value) == 401


def test_two_tokens_are_none(secured: Access) -> None:
    twice = headers(host="a") + headers(authorization=f"Bearer {TOKEN}") * 2
    problem = secured.check(twice, "/predict", "POST", LOCAL)
    assert problem is not None and problem.headers == {"www-authenticate": "Bearer"}
    assert TOKEN not in str(problem) and TOKEN not in repr(secured)


def test_token_is_compared_in_constant_time(secured: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    compare = hmac.compare_digest

    def spy(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return compare(given, wanted)

    monkeypatch.setattr(subject.hmac, "compare_digest", spy)
    assert status(secured, authorization="Bearer wrong") == 401
    assert secured.grpc([("authorization", "Bearer also wrong")], management=False) is not None
    assert compared == [(b"wrong", TOKEN.encode()), (b"also wrong", TOKEN.encode())]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready"])
def test_health_needs_no_token(secured: Access, path: str) -> None:
    assert status(secured, path, "GET") == 200
    for near in (path + "/", path.upper(), path + "x", "/" + path):
        assert status(secured, near, "GET") == 401


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]:80", "a.localhost"])
def test_names_of_the_loopback(local: Access, host: str) -> None:
    assert is_local_name(host.encode())
    assert status(local, host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "[::]",
        "192.168.0.1",
        "[::ffff:8.8.8.8]",
        "localhost@evil.example",
        "evil.example#localhost",
        "localhost evil.example",
        "localhost:80:80",
        "localhost\u00e9",
        "l" * 300,
    ],
)
def test_other_names_are_refused(local: Access, host: str) -> None:
    """A page whose own name resolves to 127.0.0.1 may ask, and would read the answers (DNS rebinding)."""
    for method in ("GET", "POST"):
        assert status(local, "/models", method, host=host) == 421
    two = headers(host="localhost") + headers(host="localhost")
    problem = local.check(two, "/models", "GET", LOCAL)
    assert problem is not None and problem.type.status == 421


PAGES = [
    ({"origin": "http://evil.example", "sec_fetch_site": "cross-site"}, 403),
    ({"origin": "http://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://localhost:3000", "sec_fetch_site": "same-site"}, 403),
    ({"origin": "http://127.0.0.1:8000"}, 403),
    ({"origin": "file://"}, 403),
    ({"sec_fetch_site": "cross-site"}, 403),
    ({"origin": "http://localhost:8000", "sec_fetch_site": "cross-site"}, 403),
    ({"origin": "http://localhost:8000", "sec_fetch_site": "same-origin"}, 200),
    ({"origin": "http://LOCALHOST:8000"}, 200),
    ({"origin": "https://localhost:8000"}, 200),
    ({"sec_fetch_site": "none"}, 200),
    ({}, 200),
]


@pytest.mark.parametrize(("given", "wanted"), PAGES)
def test_pages_of_other_origins(local: Access, given: dict[str, str], wanted: int) -> None:
    """A form of any page may post here; what it may not do is read the answer, which is too late for an unload."""
    for path in ("/predict", LOAD, "/v2/models/iris/infer"):
        assert status(local, path, "POST", **given) == wanted
    assert status(local, "/models", "GET", **given) == 200, "reading changes nothing, and the page cannot see it"


def test_pages_do_not_matter_where_a_token_is_needed(secured: Access) -> None:
    assert status(secured, origin="http://evil.example", authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize(
    "path", [LOAD, "/v2/repository/models/iris/unload", "/v2/repository/models/predict/load", "/anything", "/", ""]
)
def test_management_is_left_to_this_machine(local: Access, public: Access, path: str) -> None:
    assert is_management(path)
    for access in (local, public):
        assert status(access, path) == 200
        assert status(access, path, client=REMOTE) == 403
        assert status(access, path, client=None) == 403
        assert status(access, path, host="evil.example") == 421
        assert status(access, path, origin="http://evil.example") == 403
        for proxy in ("forwarded", "via", "x_forwarded_for", "x_forwarded_host", "x_real_ip"):
            assert status(access, path, **{proxy: "127.0.0.1"}) == 403
        assert status(access, path, method="DELETE", client=REMOTE) == 403
        assert status(access, path, method="GET") == 200


@pytest.mark.parametrize(
    "path", ["/predict", "/models/a/predict", "/v2/models/a/versions/1/infer", "/v2/repository/index"]
)
def test_public_servers_answer_anybody(public: Access, path: str) -> None:
    assert not is_management(path)
    given = {"host": "models.example", "origin": "http://elsewhere.example", "x_forwarded_for": "192.0.2.1"}
    assert status(public, path, client=REMOTE, **given) == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"])
def test_local_addresses(address: str) -> None:
    assert is_local_address(address)


@pytest.mark.parametrize(
    "address", ["", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "localhost", "127.1"]
)
def test_other_addresses(address: str) -> None:
    assert not is_local_address(address)


def test_grpc(secured: Access, local: Access, public: Access) -> None:
    bearer = [("authorization", f"Bearer {TOKEN}"), ("trace-bin", b"\0\xff")]

    def refused(access: Access, metadata: list[tuple[str, Any]], *, management: bool, peer: str = "") -> int:
        problem = access.grpc(metadata, management=management, peer=peer)
        return problem.type.status if problem is not None else 200

    for management in (False, True):
        assert refused(secured, [], management=management, peer="ipv4:127.0.0.1:5") == 401
        assert refused(secured, [*bearer, *bearer], management=management) == 401
        assert refused(secured, bearer, management=management, peer="ipv4:192.0.2.7:5") == 200
    for access in (local, public):
        assert refused(access, [], management=False, peer="ipv4:192.0.2.7:5") == 200
        for peer in ("ipv4:127.0.0.1:5", "ipv6:[::1]:5", "ipv6:%5B::1%5D:5", "ipv6:[::ffff:127.0.0.1]:5"):
            assert refused(access, [], management=True, peer=peer) == 200
            assert refused(access, [("x-forwarded-for", "127.0.0.1")], management=True, peer=peer) == 403
        for peer in ("", "ipv4:192.0.2.7:5", "ipv6:[2001:db8::1]:5", "unix:/tmp/x", "ipv4:"):
            assert refused(access, [], management=True, peer=peer) == 403


def test_request_ids() -> None:
    assert request_id(headers(x_request_id="Abc.1:2_3-4")) == "Abc.1:2_3-4"
    made = {request_id([]) for _ in range(1_000)}
    for insane in ("", "a b", "a" * 129, "a\r\nb", "\u00e9", "<script>"):
        made.add(request_id(headers(x_request_id=insane)))
    assert len(made) == 1_006
    assert all(len(one) == 32 for one in made)


def _child(queue: Any) -> None:
    queue.put(request_id([]))


def test_request_ids_of_forked_processes() -> None:
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    children = [fork.Process(target=_child, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    made = {queue.get(timeout=10) for _ in children} | {request_id([])}
    for child in children:
        child.join()
    assert len({one[:16] for one in made}) == 3
