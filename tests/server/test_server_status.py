"""How the server says what it is and what it serves, and whom it lets in."""

from __future__ import annotations

import pytest
from server_cases import assert_problem, client, digits, prices

from shipworthy.server.access import Access
from shipworthy.server.app import assemble
from shipworthy.server.catalog import Catalog
from shipworthy.server.settings import Settings

pytestmark = pytest.mark.anyio


async def test_health_says_what_is_loaded() -> None:
    async with client(prices(), digits()) as http:
        assert (await http.get("/health")).json() == {
            "status": "healthy",
            "model_loaded": True,
            "models": ["prices", "digits"],
        }
        assert (await http.get("/livez")).json() == {"status": "alive"}
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_starting_and_draining_are_not_ready() -> None:
    import httpx

    catalog = Catalog(Settings())
    transport = httpx.ASGITransport(assemble(catalog, Access(None, loopback=False)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for path in ("/readyz", "/health"):
            response = await http.get(path)
            assert (response.status_code, response.json()["status"]) == (503, "starting")
        assert (await http.get("/livez")).status_code == 200
        early = await http.post("/predict", json={"row": [1, 2]})
        assert_problem(early, 503, "not-ready")
        assert "retry-after" in early.headers

        catalog.open([("prices", prices())])
        assert (await http.get("/readyz")).status_code == 200

        catalog.drain()
        for path in ("/readyz", "/health"):
            response = await http.get(path)
            assert (response.status_code, response.json()["status"]) == (503, "draining")
        late = await http.post("/predict", json={"row": [1, 2]})
        assert late.status_code == 200, "what still comes is still answered"
        assert "connection" not in late.headers
        catalog.part()
        assert (await http.post("/predict", json={"row": [1, 2]})).headers["connection"] == "close"

        await catalog.close()
        assert_problem(await http.post("/predict", json={"row": [1, 2]}), 503, "not-ready")


async def test_model_is_described() -> None:
    async with client(digits()) as http:
        assert (await http.get("/models")).json() == {
            "models": [
                {
                    "name": "digits",
                    "version": "000000000000",
                    "variant": "numpy-fp32",
                    "task": "classification",
                    "predict": "/models/digits/predict",
                }
            ]
        }
        model = (await http.get("/models/digits")).json()
    assert model["inputs"]["image"]["shape"] == ["batch", 1, 8, 8]
    assert model["inputs"]["image"]["accept"]["size"] == [8, 8]
    assert model["outputs"]["logits"]["dtype"] == "float32"
    assert model["labels"] == list("0123456789")
    assert model["engine"] == "numpy"
    assert model["operating_point"] == {"streams": 1, "threads": 1, "batch": 8}
    assert model["passed_over"] == [{"variant": "torchscript-fp32", "reason": "carries code"}]


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "Basic secret", "secret", "Bearer sécret"])
async def test_without_the_token_nothing_but_probes(given: str | None) -> None:
    headers = {} if given is None else {"authorization": given.encode()}
    async with client(prices(), token="secret") as http:
        for path in ("/health", "/models", "/docs", "/openapi.json", "/nothing"):
            refused = await http.get(path, headers=headers)
            assert_problem(refused, 401, "unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
        assert (await http.post("/predict", json={"row": [1, 2]}, headers=headers)).status_code == 401
        assert (await http.get("/livez", headers=headers)).status_code == 200
        assert (await http.get("/readyz", headers=headers)).status_code == 200


@pytest.mark.parametrize("given", ["Bearer secret", "bearer secret", "Bearer  secret "])
async def test_with_the_token_everything(given: str) -> None:
    async with client(prices(), token="secret") as http:
        response = await http.post("/predict", json={"row": [1, 2]}, headers={"authorization": given})
    assert response.status_code == 200
