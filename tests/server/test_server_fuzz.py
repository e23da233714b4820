"""Whatever is sent: an answer or a problem that says what is wrong, never a failure of the server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server_cases import client, digits, pixels, png, prices, text64

ALLOWED = {200, 400, 413, 415, 422}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=12,
)
IMAGE = text64(png(pixels()))
INSTANCES = st.one_of(
    VALUES,
    st.fixed_dictionaries({}, optional={"row": VALUES, "house": VALUES, "image": VALUES, "more": VALUES}),
    st.just({"row": [1, 2.5]}),
    st.just({"image": IMAGE}),
    st.fixed_dictionaries({"image": st.text(alphabet="ABCab+/=", max_size=24)}),
)
DOCUMENTS = st.one_of(
    INSTANCES,
    st.fixed_dictionaries({"instances": st.one_of(VALUES, st.lists(INSTANCES, max_size=4))}, optional={"row": VALUES}),
)
VALID = [
    json.dumps({"row": [1, 2.5]}).encode(),
    json.dumps({"instances": [{"house": {"rooms": 3, "area": 1e3}}] * 2}).encode(),
    json.dumps({"image": IMAGE}).encode(),
    png(pixels()),
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + png(pixels()) + b"\r\n--b--\r\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid body with bytes changed, cut out, doubled, or put in."""
    body = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body)))
        until = min(len(body), at + draw(st.integers(0, 6)))
        body[at:until] = draw(st.one_of(st.binary(max_size=4), st.just(bytes(body[at:until]) * 2)))
    return bytes(body)


BODIES = st.one_of(DOCUMENTS.map(lambda value: json.dumps(value).encode()), mutated(), st.binary(max_size=200))
TYPES = st.one_of(
    st.sampled_from(["application/json", "image/png", "image/jpeg", "multipart/form-data; boundary=b", "text/plain"]),
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    st.lists(
        st.tuples(
            st.sampled_from(["boundary", "boundary*", "boundary*0", "boundary*1*", "boundary*0*", "boundary*x", "*"]),
            st.sampled_from(["b", '"b"', "", "utf-8''b", "idna''b", "punycode''a%ff", "''%", "9" * 5000, '"']),
        ).map("=".join),
        max_size=3,
    ).map(lambda parameters: "; ".join(["multipart/form-data", *parameters])),
)


async def post(http: httpx.AsyncClient, path: str, body: bytes, content_type: str) -> httpx.Response:
    return await http.post(path, content=body, headers={"content-type": content_type})


@pytest.mark.long
def test_generated_bodies_never_fail_the_server(effort: float) -> None:
    with asyncio.Runner() as runner:
        http = client(prices(), digits())
        seen: set[int] = set()

        @settings(max_examples=int(10_000 * effort), deadline=None, derandomize=True, database=None)
        @given(model=st.sampled_from(["prices", "digits"]), body=BODIES, content_type=TYPES)
        def check(model: str, body: bytes, content_type: str) -> None:
            response = runner.run(post(http, f"/models/{model}/predict", body, content_type))
            seen.add(response.status_code)
            assert response.status_code in ALLOWED, response.text
            expected: dict[str, Any] = response.json()
            if response.status_code == 200:
                assert "value" in expected or "probabilities" in expected or "predictions" in expected
                return
            assert response.headers["content-type"] == "application/problem+json"
            assert expected["type"].startswith("urn:shipworthy:problem:")
            assert expected["status"] == response.status_code
            assert (response.status_code == 422) == bool(expected.get("errors"))

        check()
        runner.run(http.aclose())
    assert seen >= {200, 400, 415, 422}, "the bodies reach every kind of answer"
