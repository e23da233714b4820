"""Any mixture of concurrent requests gives what each gives alone: real engines, dynamic sizes, clients that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from connection_cases import listening
from server_cases import SENTIMENT, predictor, write_tokenizer

import shipworthy
from shipworthy.contract import Array, Arrays
from shipworthy.predict import Predictor, calibrate
from shipworthy.server import Settings, create_app

pytestmark = pytest.mark.anyio


def rows(rng: np.random.Generator, count: int) -> list[dict[str, list[float]]]:
    return [{"features": row} for row in rng.normal(3, 2, (count, 4)).round(3).tolist()]


def bodies(seed: int, count: int) -> list[dict[str, Any]]:
    """One instance, several, or one that does not fit."""
    rng = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for kind in rng.choice(["one", "many", "wrong"], count, p=[0.6, 0.3, 0.1]):
        if kind == "one":
            made += rows(rng, 1)
        elif kind == "many":
            made.append({"instances": rows(rng, int(rng.integers(1, 40)))})
        else:
            made.append({"features": [1.0, float(rng.normal()), "three", 4.0]})
    return made


def told(response: httpx.Response) -> Any:
    """Status and answer, without what differs from request to request."""
    answer = response.json()
    if response.status_code != 200:
        return response.status_code, answer["errors"]
    answers = answer.get("predictions", [answer])
    return [(one["predicted_class"], one["probabilities"]) for one in answers]


def agree(together: Any, alone: Any) -> bool:
    if not (isinstance(together, list) and isinstance(alone, list)):
        return bool(together == alone)
    return len(together) == len(alone) and all(
        one[0] == other[0] and np.allclose(one[1], other[1], rtol=1e-5, atol=1e-6)
        for one, other in zip(together, alone, strict=True)
    )


def assert_unharmed(done: Sequence[Any], alone: Sequence[Any], leaving: Container[int]) -> None:
    """Who did not leave was answered as alone."""
    for place, (response, one) in enumerate(zip(done, alone, strict=True)):
        if isinstance(response, httpx.Response):
            assert agree(told(response), one)
        else:
            assert place in leaving, response


@pytest.fixture(scope="module", params=["event loop", "threads"])
def iris(request: pytest.FixtureRequest, stored: Path) -> Iterator[Predictor]:
    """The stored package: batches run on the event loop where the host's costs are known, in a thread where not."""
    with shipworthy.load(stored) as model:
        if request.param == "event loop":
            calibrate(model)
        yield model


@pytest.mark.parametrize("seed", range(4))
async def test_concurrent_requests_are_answered_as_alone(seed: int, iris: Predictor) -> None:
    asked = bodies(seed, 60)
    transport = httpx.ASGITransport(create_app({"iris": iris}, settings=Settings(target_ms=10_000)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        alone = [told(await http.post("/predict", json=body)) for body in asked]
        together = await asyncio.gather(*(http.post("/predict", json=body) for body in asked))
    assert all(agree(told(response), one) for response, one in zip(together, alone, strict=True))


@pytest.mark.parametrize("seed", range(3))
async def test_requests_that_are_given_up_harm_no_other(seed: int, iris: Predictor) -> None:
    asked, rng = bodies(seed, 60), np.random.default_rng(seed)
    leaving = set(rng.choice(60, 20, replace=False).tolist())
    transport = httpx.ASGITransport(create_app({"iris": iris}, settings=Settings(target_ms=10_000)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        alone = [told(await http.post("/predict", json=body)) for body in asked]
        tasks = [asyncio.create_task(http.post("/predict", json=body)) for body in asked]
        for _ in range(int(rng.integers(1, 20))):
            await asyncio.sleep(0)
        for place in leaving:
            tasks[place].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert_unharmed(done, alone, leaving)


@pytest.mark.parametrize("seed", range(3))
async def test_mixtures_over_the_network(seed: int, iris: Predictor) -> None:
    """Where plain requests are answered without a task, and others beside them are not; some clients leave."""
    asked, rng = bodies(seed, 120), np.random.default_rng(seed)
    leaving = set(rng.choice(120, 30, replace=False).tolist())
    with listening(create_app({"iris": iris}, settings=Settings(target_ms=10_000))) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            alone = [told(await http.post("/predict", json=body)) for body in asked]
            tasks = [asyncio.create_task(http.post("/predict", json=body)) for body in asked]
            await asyncio.sleep(float(rng.uniform(0, 0.03)))
            for place in leaving:
                tasks[place].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
    assert_unharmed(done, alone, leaving)


def words(seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(["the", "cat", "sat", "dog"], int(rng.integers(1, 17)))) for _ in range(50)]


@pytest.mark.parametrize("padded", [False, True])
async def test_texts_of_all_lengths_are_answered_as_alone(padded: bool, tmp_path: Path) -> None:
    def run(feeds: Arrays) -> dict[str, Array]:
        total = (feeds["ids"] * feeds["mask"]).sum(axis=1).astype(np.float32)
        return {"score": np.stack([-total, total], axis=1)}

    write_tokenizer(tmp_path)
    pad = {"pad": 0} if padded else {}
    inputs = {name: {**spec, **pad} for name, spec in SENTIMENT["inputs"].items()}
    model = predictor({**SENTIMENT, "inputs": inputs}, run, root=tmp_path)
    asked = [{"text": text} for text in words(7)]
    transport = httpx.ASGITransport(create_app({"sentiment": model}, settings=Settings(target_ms=10_000)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        alone = [told(await http.post("/predict", json=body)) for body in asked]
        together = await asyncio.gather(*(http.post("/predict", json=body) for body in asked))
    assert [told(response) for response in together] == alone
