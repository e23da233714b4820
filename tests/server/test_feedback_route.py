"""The route that takes labels: what becomes of them is said, counted, and described."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, get_args

import httpx
import pytest
from jsonschema import Draft202012Validator
from routing_cases import Extras, Kept, catalog_of, version
from server_cases import assert_problem

from shipworthy.errors import RegistryError
from shipworthy.server import Settings, create_app
from shipworthy.server import feedback as feedback_room
from shipworthy.server import told as told_room
from shipworthy.server.access import Access
from shipworthy.server.app import assemble
from shipworthy.server.feedback import LONGEST, WAITING, WAITING_BYTES
from shipworthy.server.incoming import HEAD_START_S
from shipworthy.server.routing import Outcome
from shipworthy.server.told import FAULTS, QUICK, Item

pytestmark = pytest.mark.anyio

PATH = "/models/prices/feedback"
MOST = 20
STATUS = {
    "accepted": 200,
    "duplicate": 200,
    "late": 200,
    "contradictory": 409,
    "forged": 422,
    "unknown-model": 422,
    "unusable": 422,
}
SLUGS = {409: "conflict", 422: "invalid-input"}


@pytest.fixture
def extras() -> Extras:
    return Extras()


@pytest.fixture
async def http(extras: Extras) -> AsyncIterator[httpx.AsyncClient]:
    catalog = catalog_of(extras, version("1"), max_instances=MOST, max_body_bytes=10_000)
    transport = httpx.ASGITransport(assemble(catalog, Access(None, loopback=False)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
    await catalog.close()


def label(name: str = "id", value: object = 1.5) -> dict[str, object]:
    return {"prediction_id": name, "label": value}


async def test_one_of_each_outcome(extras: Extras, http: httpx.AsyncClient) -> None:
    assert set(STATUS) == set(get_args(Outcome))
    for outcome, status in STATUS.items():
        extras.feedback.outcomes = [Kept(outcome, f"it is {outcome}")]
        answer = await http.post(PATH, json=label())
        if status == 200:
            assert (answer.status_code, answer.json()) == (200, {"outcome": outcome, "reason": f"it is {outcome}"})
        else:
            assert assert_problem(answer, status, SLUGS[status])["detail"] == f"it is {outcome}"
    assert extras.feedback.told == [("prices", [("id", 1.5, None)])] * len(STATUS)
    counted = (await http.get("/metrics")).text
    for outcome in STATUS:
        assert f'shipworthy_feedback_labels_total{{model="prices",outcome="{outcome}"}} 1.0' in counted, counted


async def test_many_are_told_of_one_by_one(extras: Extras, http: httpx.AsyncClient) -> None:
    extras.feedback.outcomes = [Kept(outcome, "why" * (outcome != "accepted")) for outcome in STATUS]
    sent = [label(str(place)) for place in range(len(STATUS))]
    answer = await http.post(PATH, json={"feedback": sent})
    assert answer.status_code == 200
    said = answer.json()
    assert said["counts"] == dict.fromkeys(STATUS, 1)
    assert [one["outcome"] for one in said["outcomes"]] == list(STATUS)
    assert {one["reason"] for one in said["outcomes"][1:]} == {"why"} and said["outcomes"][0]["reason"] == ""
    assert extras.feedback.told == [("prices", [(str(place), 1.5, None) for place in range(len(STATUS))])]
    counted = (await http.get("/metrics")).text
    assert 'shipworthy_feedback_labels_total{model="prices",outcome="late"} 1.0' in counted


@pytest.mark.parametrize("value", [3, 3.5, "seven", [1, "two"], [], -(2**63), 0])
async def test_labels_of_every_kind_come_as_they_are(value: object, extras: Extras, http: httpx.AsyncClient) -> None:
    assert (await http.post(PATH, json=label(value=value))).status_code == 200
    [(_, [(_, told, loss)])] = extras.feedback.told
    assert (told, type(told), loss) == (value, type(value), None)


async def test_a_loss_stands_for_a_label(extras: Extras, http: httpx.AsyncClient) -> None:
    assert (await http.post(PATH, json={"prediction_id": "id", "loss": 0.25})).status_code == 200
    assert extras.feedback.told == [("prices", [("id", None, 0.25)])]


WRONG: dict[str, tuple[object, list[tuple[int, str]]]] = {
    "no object": ([label()], [(0, "body")]),
    "a number": (3, [(0, "body")]),
    "no id": ({"label": 1}, [(0, "prediction_id")]),
    "an id that is no text": ({"prediction_id": 3, "label": 1}, [(0, "prediction_id")]),
    "neither": ({"prediction_id": "id"}, [(0, "label")]),
    "both": ({**label(), "loss": 0.5}, [(0, "label")]),
    "no label": (label(value=True), [(0, "label")]),
    "an object as label": (label(value={"a": 1}), [(0, "label")]),
    "another field": ({**label(), "more": 1}, [(0, "more")]),
    "none": ({"feedback": []}, [(0, "feedback")]),
    "no list": ({"feedback": label()}, [(0, "feedback")]),
    "something beside": ({"feedback": [label()], "prediction_id": "id"}, [(0, "feedback")]),
    "some of many": (
        {"feedback": [label(), 3, {"label": 1}, label("x", None)]},
        [(1, "body"), (2, "prediction_id"), (3, "label")],
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_does_not_fit_is_named(name: str, extras: Extras, http: httpx.AsyncClient) -> None:
    body, faults = WRONG[name]
    problem = assert_problem(await http.post(PATH, json=body), 422, "invalid-input")
    assert [(one["sample_index"], one["field"]) for one in problem["errors"]] == faults
    assert extras.feedback.told == [], "all or none"


@pytest.mark.parametrize("body", [b"", b"{", b'{"label": NaN}', b"\xff", b"[" * 1000])
async def test_what_is_no_json_is_refused(body: bytes, extras: Extras, http: httpx.AsyncClient) -> None:
    assert_problem(await http.post(PATH, content=body), 400, "malformed")
    assert extras.feedback.told == []


@pytest.mark.parametrize("digits", [20, 400, 4000])
async def test_numbers_beyond_all_use_are_no_failures(digits: int, extras: Extras, http: httpx.AsyncClient) -> None:
    for field in ("label", "loss"):
        body = f'{{"prediction_id": "id", "{field}": 1{"0" * digits}}}'.encode()
        answer = await http.post(PATH, content=body)
        # As 64 bits they are a number all the same, or they are none.
        assert answer.status_code == (200 if digits == 20 else 422), answer.text
    assert extras.feedback.told == [
        ("prices", [("id", *given)]) for given in ((1e20, None), (None, 1e20)) if digits == 20
    ]


async def test_too_many_and_too_much_are_refused(extras: Extras, http: httpx.AsyncClient) -> None:
    enough = [label(str(place)) for place in range(MOST)]
    assert (await http.post(PATH, json={"feedback": enough})).status_code == 200
    problem = assert_problem(await http.post(PATH, json={"feedback": [*enough, label()]}), 413, "too-large")
    assert f"may have {MOST} labels, got {MOST + 1}" in problem["detail"]
    assert_problem(await http.post(PATH, json=label("x" * 10_000)), 413, "too-large")
    assert len(extras.feedback.told) == 1


async def test_models_that_are_not_there_take_none(http: httpx.AsyncClient) -> None:
    assert_problem(await http.post("/models/none/feedback", json=label()), 404, "not-found")
    assert_problem(await http.get(PATH), 405, "method-not-allowed")


async def test_a_server_without_a_registry_takes_none() -> None:
    app = create_app({"prices": version("1")}, settings=Settings())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        problem = assert_problem(await http.post(PATH, json=label()), 404, "not-found")
        assert "serve the model from a registry" in problem["detail"]


async def test_labels_that_cannot_be_kept_are_to_be_sent_again(
    extras: Extras, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    extras.feedback.fails = RegistryError("postgresql://db.example/registry", "cannot be reached", "start it")
    with caplog.at_level(logging.ERROR, "shipworthy.server"):
        answer = await http.post(PATH, json=label())
    problem = assert_problem(answer, 503, "unreachable")
    assert answer.headers["retry-after"] == "1"
    assert "db.example" not in problem["detail"] and "db.example" in caplog.text
    extras.feedback.fails = None
    assert (await http.post(PATH, json=label())).status_code == 200


async def test_what_nobody_foresaw_is_no_secret_told(extras: Extras, http: httpx.AsyncClient) -> None:
    extras.feedback.fails = ValueError("a secret")
    assert "secret" not in assert_problem(await http.post(PATH, json=label()), 500, "internal")["detail"]


async def test_a_slow_registry_keeps_neither_threads_nor_ever_more_labels(
    extras: Extras, http: httpx.AsyncClient
) -> None:
    """Packages are loaded in the threads that the event loop has for everybody."""
    go = threading.Event()
    extras.feedback.wait = lambda: go.wait(20)
    waiting = [asyncio.create_task(http.post(PATH, json=label(str(place)))) for place in range(WAITING)]
    await asyncio.sleep(0.1)
    refused = await http.post(PATH, json=label())
    assert_problem(refused, 503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
    assert (await http.post("/predict", json={"row": [1.0, 2.0]})).status_code == 200
    go.set()
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    assert [told[0][0] for _, told in extras.feedback.told] == [str(place) for place in range(WAITING)]
    assert (await http.post(PATH, json=label())).status_code == 200


class Room:
    """A server with its bounds for labels, asked below the web server: a body comes as a test sends it."""

    def __init__(self, extras: Extras, **settings: Any) -> None:
        self.catalog = catalog_of(extras, version("1"), **settings)
        self.app: Any = assemble(self.catalog, Access(None, loopback=False))

    async def ask(
        self, receive: Callable[[], Awaitable[Any]], *, length: int | None = None, chunked: bool = False
    ) -> tuple[int, dict[bytes, bytes], Any]:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        headers += [(b"transfer-encoding", b"chunked")] if chunked else []
        headers += [] if length is None else [(b"content-length", b"%d" % length)]
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
        }
        scope |= {"headers": headers, "client": ("127.0.0.1", 1), "server": ("localhost", 80), "scheme": "http"}
        scope |= {"http_version": "1.1", "root_path": "", "asgi": {"version": "3.0"}}
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], dict(sent[0]["headers"]), json.loads(content)

    async def refused(self, *, length: int | None = None, chunked: bool = False) -> tuple[int, str, bytes | None]:
        """Of a request whose body is not even looked at: status, reason, and when to come again."""

        async def receive() -> Any:
            raise AssertionError("its body was asked for")

        status, headers, problem = await self.ask(receive, length=length, chunked=chunked)
        return status, problem["detail"], headers.get(b"retry-after")


class Held:
    """A request whose body comes when a test says so, but for the `first` bytes of it; the `last` ones come apart."""

    def __init__(self, room: Room, body: bytes, *, first: int = 0, last: int = 0, **announced: Any) -> None:
        self.go, self._body, self._first, self._last = asyncio.Event(), body, first, last
        self.leaves = False
        self.task = asyncio.create_task(room.ask(self._receive, **announced))

    async def _receive(self) -> Any:
        if self._first:
            first, self._body, self._first = self._body[: self._first], self._body[self._first :], 0
            return {"type": "http.request", "body": first, "more_body": True}
        await self.go.wait()
        if self._last:
            first, self._body, self._last = self._body[: -self._last], self._body[-self._last :], 0
            return {"type": "http.request", "body": first, "more_body": True}
        return {"type": "http.disconnect"} if self.leaves else {"type": "http.request", "body": self._body}


async def test_a_place_is_taken_before_the_body_is_read(extras: Extras) -> None:
    room, body = Room(extras), json.dumps(label()).encode()
    held = [Held(room, body, length=len(body)) for _ in range(WAITING)]
    await asyncio.sleep(0.05)
    status, reason, after = await room.refused(length=len(body))
    assert (status, reason, after) == (503, "as many labels wait for the registry as may", b"1")
    held[0].leaves = True
    held[0].go.set()
    await asyncio.wait([held[0].task], timeout=5)
    for one in held[1:]:
        one.go.set()
    assert {(await one.task)[0] for one in held[1:]} == {200}
    free = Held(room, body, length=len(body))
    free.go.set()
    assert (await free.task)[0] == 200, "who left holds no place either"
    await room.catalog.close()


async def test_the_bytes_of_labels_that_wait_are_bounded(extras: Extras) -> None:
    room, body = Room(extras), json.dumps(label()).encode()
    whole = body.ljust(LONGEST)
    # A body that comes in chunks has as many as have come; whoever says nothing of a body has none.
    held = [Held(room, whole, first=LONGEST - 1, chunked=True) for _ in range(WAITING_BYTES // LONGEST - 1)]
    held.append(Held(room, whole, length=LONGEST))
    await asyncio.sleep(0.05)
    status, reason, after = await room.refused(length=len(body))
    assert (status, after) == (503, b"1") and "as many bytes as they may" in reason
    for first in (0, 50):
        chunked = Held(room, body, first=first, chunked=True)
        chunked.go.set()
        status, _, problem = await chunked.task
        assert status == 503 and "as many bytes as they may" in problem["detail"]
    held[0].go.set()
    assert (await held[0].task)[0] == 200
    held.append(Held(room, body, chunked=True))
    for one in held[1:]:
        one.go.set()
    assert {(await one.task)[0] for one in held[1:]} == {200}, "each was as quick as it could"
    last = Held(room, whole, length=LONGEST)
    last.go.set()
    assert (await last.task)[0] == 200
    await room.catalog.close()


@pytest.mark.parametrize(
    ("count", "announced"),
    [
        (WAITING_BYTES // LONGEST, {"length": LONGEST}),
        (WAITING, {"length": 100}),
        (WAITING, {"chunked": True}),
    ],
    ids=["bytes", "requests", "chunks"],
)
async def test_bodies_that_hardly_come_hold_no_place(count: int, announced: dict[str, Any], extras: Extras) -> None:
    room, body = Room(extras), json.dumps(label()).encode()
    slow = [Held(room, body, first=1, **announced) for _ in range(count)]
    await asyncio.sleep(2 * HEAD_START_S)
    free = Held(room, body, length=len(body))
    free.go.set()
    assert (await free.task)[0] == 200
    done = [one for one in slow if one.task.done()]
    assert len(done) == 1, "no more than it needs"
    status, headers, problem = await done[0].task
    assert (status, headers[b"retry-after"]) == (503, b"1") and "too slowly" in problem["detail"]
    for one in slow:
        one.go.set()
    assert {(await one.task)[0] for one in slow if one is not done[0]} == {200}
    await room.catalog.close()


async def test_many_bodies_in_chunks_that_have_not_come_keep_nobody_out(extras: Extras) -> None:
    room, body = Room(extras), json.dumps(label()).encode()
    held = [Held(room, body, chunked=True) for _ in range(WAITING - 1)]
    await asyncio.sleep(0)
    free = Held(room, body, length=len(body))
    free.go.set()
    assert (await free.task)[0] == 200
    for one in held:
        one.go.set()
    assert {(await one.task)[0] for one in held} == {200}
    await room.catalog.close()


async def test_what_is_more_than_it_seemed_pushes_aside_who_is_slow(extras: Extras) -> None:
    """And never itself, though it is the slowest."""
    room, body = Room(extras), json.dumps(label()).encode()
    whole = body.ljust(LONGEST)
    slow = [Held(room, whole, first=1000, length=LONGEST) for _ in range(WAITING_BYTES // LONGEST - 1)]
    slow.append(Held(room, whole[:-1], first=1000, length=LONGEST - 1))
    chunked = Held(room, body, first=1, last=1, chunked=True)
    await asyncio.sleep(2 * HEAD_START_S)
    chunked.go.set()
    assert (await chunked.task)[0] == 200
    for one in slow:
        one.go.set()
    assert sorted([(await one.task)[0] for one in slow]) == [200] * (len(slow) - 1) + [503]
    await room.catalog.close()


@pytest.mark.parametrize(("allowed", "longest"), [(32 * 2**20, LONGEST), (4000, 4000)])
async def test_labels_have_a_limit_of_their_own(extras: Extras, allowed: int, longest: int) -> None:
    room = Room(extras, max_body_bytes=allowed)
    status, reason, _ = await room.refused(length=longest + 1)
    assert (status, reason) == (413, f"a body may have {longest} bytes")
    held = Held(room, json.dumps(label()).encode().ljust(longest + 1), chunked=True)
    held.go.set()
    assert (await held.task)[0] == 413
    whole = Held(room, json.dumps(label()).encode().ljust(longest), length=longest)
    whole.go.set()
    assert (await whole.task)[0] == 200
    await room.catalog.close()


async def test_large_bodies_are_read_beside_the_event_loop(extras: Extras, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    for name in ("read_told", "_written"):
        work = getattr(feedback_room, name)

        def noted(*given: Any, work: Any = work) -> Any:
            threads.append(threading.current_thread().name.rpartition("_")[0])
            return work(*given)

        monkeypatch.setattr(feedback_room, name, noted)
    room = Room(extras)
    for number in (1, 10_000):
        threads.clear()
        sent = json.dumps({"feedback": [label("A" * 88)] * number}).encode()
        held = Held(room, sent, length=len(sent))
        held.go.set()
        status, _, said = await held.task
        assert (status, said["counts"], len(said["outcomes"])) == (200, {"accepted": number}, number)
        assert threads == ["shipworthy-decode" if len(sent) > QUICK else ""] * 2
    await room.catalog.close()


@pytest.mark.parametrize("one", [b"[],", b"1,", b'{"a":[]},'])
async def test_what_is_too_much_is_refused_before_anything_is_made_of_it(
    one: bytes, extras: Extras, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Item, "model_validate", lambda one: 1 // 0)
    if one != b"1,":
        monkeypatch.setattr(told_room, "read_json", lambda body: 1 // 0)
    room = Room(extras)
    held = Held(room, b'{"feedback":[' + one * 200_000 + b"1]}", chunked=True)
    held.go.set()
    status, _, problem = await held.task
    assert status == 413 and "a request may have 10000 labels" in problem["detail"]
    await room.catalog.close()


async def test_of_many_faults_some_are_named(extras: Extras) -> None:
    room = Room(extras)
    sent = json.dumps({"feedback": [{"x" * 1000: 1}, {str(place): 1 for place in range(50)}] * 500}).encode()
    held = Held(room, sent, length=len(sent))
    held.go.set()
    status, _, problem = await held.task
    assert (status, len(problem["errors"])) == (422, FAULTS)
    assert problem["detail"] == f"1000 faults, the first {FAULTS} in errors"
    assert len(json.dumps(problem)) < 30_000
    assert {one["field"] for one in problem["errors"]} == {"prediction_id", "0"}
    await room.catalog.close()


async def test_the_document_describes_it(extras: Extras, http: httpx.AsyncClient) -> None:
    api: dict[str, Any] = (await http.get("/openapi.json")).json()
    operation = api["paths"]["/models/{model}/feedback"]["post"]
    assert {"200", "400", "404", "409", "413", "422", "503"} <= set(operation["responses"])
    asked, answered = (
        Draft202012Validator({**one["content"]["application/json"]["schema"], "components": api["components"]})
        for one in (operation["requestBody"], operation["responses"]["200"])
    )
    for body in (label(), {"prediction_id": "id", "loss": 1.0}, {"feedback": [label(), label("x", ["a", 2])]}):
        asked.validate(body)
        answer = await http.post(PATH, content=json.dumps(body))
        assert answer.status_code == 200
        answered.validate(answer.json())
    assert not asked.is_valid({"prediction_id": 3, "label": 1})
