"""Requests that two versions share: which of them answers, whatever way a request goes, and what the router is told."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest
from connection_cases import request, wait_until
from routing_cases import ARM, Extras, Routed, catalog_of, routed, total, version
from server_cases import PRICES, assert_problem

from shipworthy.contract import Array, Arrays
from shipworthy.scheduling import Refusal
from shipworthy.server.connections.exchange import Exchange
from shipworthy.server.dispatch import Dispatcher
from shipworthy.server.reporting import LEFT

ROW = {"row": [1.5, 2.0]}
TENSORS = {"inputs": [{"name": "row", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.0]}]}
ANSWERED: dict[str, tuple[str, object, bool]] = {
    "short": ("/predict", ROW, True),
    "short, named": ("/models/prices/predict", ROW, True),
    "usual": ("/predict?round=9", ROW, True),
    "many": ("/predict", {"instances": [ROW, {"row": [1, 1]}]}, True),
    "v2": ("/v2/models/prices/infer", TENSORS, False),
}
"""Path, body, and whether answers have ids."""
WAYS = ["/predict", "/predict?round=9", "/v2/models/prices/infer"]
"""The short way, the usual one, and the other protocol."""


def pair(**options: Any) -> tuple[Any, Any]:
    return version("2", **options), version("1", **options)


def told(server: Routed) -> list[tuple[str, int]]:
    """What the router was told of a request that was answered; the answer is out before."""
    wait_until(lambda: server.trial.done)
    return server.trial.done


@pytest.mark.parametrize("quick", [True, False], ids=["event loop", "threads"])
def test_the_version_that_was_assigned_answers(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with routed(monkeypatch, *pair(quick=quick)) as server:
        for way, arm in [(way, arm) for way in ANSWERED for arm in ("1", "2", None, "1", "2", None)]:
            path, body, has_ids = ANSWERED[way]
            answer = server.post(path, body, arm)
            assert answer.status_code == 200, answer.text
            wanted = arm or "1"
            said = answer.json()
            assert server.trial.assigned == [wanted]
            assert told(server) == [(wanted, 200)]
            if not has_ids:
                assert said["model_version"] == wanted
                assert server.trial.named == []
                continue
            rows = said.get("predictions", [said])
            assert [row["version"] for row in rows] == [wanted] * len(rows)
            assert [row["prediction_id"] for row in rows] == [f"{wanted}-{place}" for place in range(len(rows))]
            asked: Any = body
            assert server.trial.named == [asked.get("instances", [asked])]
            # A path is found out about with its first request.
            assert arm == "1" or bool(server.tasks) == (not quick or not way.startswith("short"))


def test_what_goes_wrong_on_the_short_way_is_an_error_of_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment that is told of no end waits for it."""
    with routed(monkeypatch, *pair()) as server:
        assert server.post("/predict", ROW, "2").status_code == 200
        told(server)
        for broken in ("admit", "rows"):
            lane = server.catalog.models["prices"].versions["2"]
            with monkeypatch.context() as patch:
                patch.setattr(lane, broken, _Broken())
                server.trial.forget()
                answer = server.post("/predict", ROW, "2")
            assert (answer.status_code, told(server)) == (500, [("2", 500)]), broken


class _Broken:
    """A fault of the program, wherever it is used."""

    def __call__(self, *given: object) -> None:
        raise ZeroDivisionError

    take = __call__


def test_a_named_version_is_part_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with routed(monkeypatch, *pair()) as server:
        for number in ("1", "2"):
            for _ in range(2):
                answer = server.post(f"/models/prices/versions/{number}/predict", ROW, "1")
                assert (answer.json()["version"], answer.json()["prediction_id"]) == (number, f"prices:{number}")
            inferred = server.post(f"/v2/models/prices/versions/{number}/infer", TENSORS, "1")
            assert inferred.json()["model_version"] == number
            assert (server.trial.assigned, server.trial.done) == ([], [])


def test_without_a_trial_the_router_names_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with routed(monkeypatch, version("3")) as server:
        for path in ("/predict", "/predict?round=3"):
            assert server.post(path, ROW).json()["prediction_id"] == "prices:3"


def test_whom_the_short_way_leaves_to_the_usual_one_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is too slow for the event loop is found out about after the assignment."""
    with routed(monkeypatch, version("2", quick=False), version("1")) as server:
        for way, arm, tasks in [(way, arm, arm == "2" or way != WAYS[0]) for way in WAYS for arm in ("2", "1")]:
            answer = server.post(way, TENSORS if "v2" in way else ROW, arm)
            assert answer.status_code == 200
            assert server.trial.assigned == [arm]
            assert told(server) == [(arm, 200)]
            assert bool(server.tasks) == tasks


REFUSED: dict[str, tuple[dict[str, Any], int]] = {
    "malformed": ({"content": b"{"}, 400),
    "type": ({"content": b'{"row": [1, 2]}', "headers": {"content-type": "text/plain"}}, 415),
    "too large": ({"content": b'{"row": [1, 2]}' + b" " * 600}, 413),
    "too few": ({"json": {"row": [1.0]}}, 422),
    "no number": ({"json": {"row": [1.0, "x"]}}, 422),
    "one of many": ({"json": {"instances": [ROW, {}]}}, 422),
    "not finite": ({"json": {"row": [3e38, 3e38]}}, 422),
    "timeout": ({"json": ROW, "headers": {"x-request-timeout-ms": "x"}}, 422),
    "engine": ({"json": {"row": [-1.0, 0.0]}}, 500),
}


def touchy(feeds: Arrays) -> dict[str, Array]:
    if (feeds["row"] < 0).any():
        raise RuntimeError("a secret")
    with np.errstate(over="ignore"):
        return total(feeds)


@pytest.mark.parametrize("quick", [True, False], ids=["event loop", "threads"])
def test_what_is_refused_is_told_once(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with routed(monkeypatch, *pair(run=touchy, quick=quick), max_body_bytes=500) as server:
        for name, (options, status) in REFUSED.items():
            for path, arm in zip(WAYS[:2] * 2, "1221", strict=True):
                server.trial.forget()
                headers = {"content-type": "application/json", "x-arm": arm, **options.get("headers", {})}
                answer = server.http.post(path, **{**options, "headers": headers})
                assert answer.status_code == status, name
                assert (server.trial.assigned, told(server)) == ([arm], [(arm, status)]), name


def test_what_v2_refuses_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with routed(monkeypatch, *pair(run=touchy)) as server:
        wrong = {"inputs": [{**TENSORS["inputs"][0], "name": "other"}]}
        fatal = {"inputs": [{**TENSORS["inputs"][0], "data": [-1, 0]}]}
        for body, status in ((wrong, 400), (fatal, 500), ({}, 400)):
            answer = server.post("/v2/models/prices/infer", body, "2")
            assert answer.status_code == status
            assert (server.trial.assigned, told(server)) == (["2"], [("2", status)])


def test_who_is_turned_away_counts_for_the_assigned_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with routed(monkeypatch, *pair()) as server:
        monkeypatch.setattr(Dispatcher, "admit", lambda *_: Refusal("deadline", 2.0))
        for path in WAYS:
            assert server.post(path, TENSORS if "v2" in path else ROW, "2").status_code == 503
            assert (server.trial.assigned, told(server)) == (["2"], [("2", 503)])


def test_a_deadline_that_passes_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def stuck(feeds: Arrays) -> dict[str, Array]:
        if (feeds["row"] == 7).any():
            go.wait(10)
        return total(feeds)

    with routed(monkeypatch, *pair(run=stuck, quick=False)) as server:
        for path, body in (
            ("/predict", {"row": [7.0, 0.0]}),
            ("/v2/models/prices/infer", {"inputs": [{**TENSORS["inputs"][0], "data": [7, 0]}]}),
        ):
            go.clear()
            late = server.post(path, body, "2", headers={"x-request-timeout-ms": "60"})
            go.set()
            assert late.status_code == 504
            assert (server.trial.assigned, told(server)) == (["2"], [("2", 504)])
            wait_until(lambda: not server.catalog.models["prices"].versions["2"].queue.running)


@pytest.mark.parametrize("fails", [False, True], ids=["answered", "failing"])
def test_who_has_left_is_told_of_as_such(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody was answered; but a version that fails does so whether or not somebody is there to see it."""
    leaves, exchanges = False, list[Exchange]()
    init = Exchange.__init__

    def seen(exchange: Exchange, *arguments: Any, **options: Any) -> None:
        exchanges.append(exchange)
        init(exchange, *arguments, **options)

    def run(feeds: Arrays) -> dict[str, Array]:
        if leaves:
            # As when the event loop learns of it between two batches.
            exchanges[-1].leave()
            if fails:
                raise RuntimeError("broken")
        return total(feeds)

    monkeypatch.setattr(Exchange, "__init__", seen)
    with routed(monkeypatch, *pair(run=run)) as server:
        for path in WAYS:
            server.trial.forget()
            exchanges.clear()
            leaves = True
            body = json.dumps(TENSORS if "v2" in path else ROW).encode()
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                client.sendall(request("POST", path, body, b"content-type: application/json", b"x-arm: 2"))
                wait_until(lambda: exchanges and exchanges[-1].gone)
            leaves = False
            wait_until(lambda: not server.catalog.models["prices"].versions["2"].queue.requests)
            assert server.trial.assigned == ["2"]
            time.sleep(0.05)
            assert server.trial.done == [("2", 500 if fails else LEFT)]


def test_a_client_that_leaves_while_its_batch_runs_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    go, began = threading.Event(), threading.Event()

    def run(feeds: Arrays) -> dict[str, Array]:
        began.set()
        assert go.wait(10)
        return total(feeds)

    go.set()
    with routed(monkeypatch, *pair(run=run, quick=False)) as server:
        server.trial.forget()
        go.clear()
        began.clear()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            sent = request("POST", "/predict", json.dumps(ROW).encode(), b"content-type: application/json")
            client.sendall(sent)
            assert began.wait(10)
        time.sleep(0.05)
        go.set()
        wait_until(lambda: not server.catalog.models["prices"].versions["1"].queue.requests)
        assert (server.trial.assigned, server.trial.done) == (["1"], [("1", LEFT)])


def test_an_answer_that_is_not_finite_is_told_apart_from_an_input_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(feeds: Arrays) -> dict[str, Array]:
        return {name: array * np.float32("nan") for name, array in total(feeds).items()}

    with routed(monkeypatch, *pair(run=run)) as server:
        for path in ("/predict", "/predict?round=2"):
            server.trial.forget()
            server.trial.unanswered = 0
            assert server.post(path, {"row": [1.0, 2.0]}, "2").status_code == 422
            assert (told(server), server.trial.unanswered) == ([("2", 422)], 1)
            assert server.post(path, {"row": "no numbers"}, "2").status_code == 422
            assert (told(server), server.trial.unanswered) == ([("2", 422)], 1)


def test_only_answers_of_predict_have_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    with routed(monkeypatch, *pair()) as server:
        for path in WAYS:
            server.trial.forget()
            assert server.post(path, TENSORS if "v2" in path else ROW, "2").status_code == 200
            assert server.trial.with_ids == ["v2" not in path]


def test_access_is_judged_before_anything_is_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "t" * 20
    right = {"authorization": f"Bearer {token}"}
    with routed(monkeypatch, *pair(), token=token) as server:
        for path in WAYS:
            body = TENSORS if "v2" in path else ROW
            for headers in ({}, {"authorization": "Bearer wrong"}):
                assert server.post(path, body, "2", headers=headers).status_code == 401
                assert (server.trial.assigned, server.trial.done) == ([], [])
            assert server.http.get(path, headers=right).status_code == 405
            assert server.trial.assigned == []
            assert server.post(path, body, "2", headers=right).status_code == 200
            assert told(server) == [("2", 200)]


def test_models_that_are_not_on_trial_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    other = version("1", given={**PRICES, "name": "rents"})
    with routed(monkeypatch, *pair(), other) as server:
        assert server.post("/models/rents/predict", ROW, "2").json()["version"] == "1"
        assert_problem(server.post("/models/none/predict", ROW, "2"), 404, "not-found")
        assert server.trial.assigned == []


def test_requests_of_a_trial_leave_no_cycles_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would be looked through for garbage some time later, which took milliseconds from others."""
    with routed(monkeypatch, *pair()) as server:
        for path in ("/predict", "/predict?round=3"):
            for _ in range(3):
                server.post(path, ROW, "2")
            gc.collect()
            gc.disable()
            try:
                for place in range(90):
                    server.post(path, ROW if place % 3 else {}, "12"[place % 2])
                time.sleep(0.05)
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                homes = ("shipworthy.server", "routing_cases")
                left = [one for one in gc.garbage if type(one).__module__.startswith(homes)]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert len(left) < 20, left[:5]


def test_the_router_is_asked_whenever_other_versions_are_served() -> None:
    async def served() -> list[tuple[str, tuple[str, ...]]]:
        extras = Extras()
        catalog = catalog_of(extras, *pair())
        trial = catalog.experiment("prices")
        assert trial is extras.router.trials["prices"]
        await catalog.unload("prices")
        assert catalog.experiment("prices") is None
        await catalog.close()
        return extras.router.asked

    # With none at the end: whoever runs beside the versions has to let go of them.
    assert asyncio.run(served()) == [("prices", ("2", "1")), ("prices", ())]


def test_a_lane_is_not_freed_while_another_thread_runs_its_predictor() -> None:
    async def served() -> None:
        extras = Extras()
        catalog = catalog_of(extras, *pair(quick=False))
        lane = catalog.lane("prices", "2")
        ended = threading.Event()
        borrower = threading.Thread(target=ended.wait, daemon=True)
        borrower.start()
        lane.borrowers.append(borrower)
        retiring = asyncio.create_task(catalog.unload("prices"))
        await asyncio.sleep(0.05)
        assert not retiring.done() and not lane.predictor._runner.closed  # type: ignore[attr-defined]
        assert not await lane.close(0.02), "it says that it could not"
        ended.set()
        await retiring
        assert lane.predictor._runner.closed  # type: ignore[attr-defined]
        await catalog.close()

    asyncio.run(served())


def test_a_catalog_ends_without_a_version_that_cannot_be_freed() -> None:
    """As where the copies of a challenger are stuck in its engine, long after its rollout has ended."""

    async def served() -> list[str]:
        catalog = catalog_of(Extras(), *pair(quick=False))
        ended = threading.Event()
        borrower = threading.Thread(target=ended.wait, daemon=True)
        borrower.start()
        catalog.lane("prices", "2").borrowers.append(borrower)
        unloading = asyncio.create_task(catalog.unload("prices"))
        await asyncio.sleep(0.02)
        hung = await catalog.close(0.05)
        ended.set()
        await unloading
        return [*hung, *await catalog.close()]

    assert asyncio.run(served()) == ["versions that were replaced"]


grpc = pytest.importorskip("grpc")


def test_calls_of_grpc_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    from v2_cases import serving

    from shipworthy.server.v2.messages import message, methods

    go = threading.Event()
    began = threading.Event()

    def run(feeds: Arrays) -> dict[str, Array]:
        if (feeds["row"] == 7).any():
            began.set()
            go.wait(10)
        return touchy(feeds)

    def ask(channel: Any, numbers: list[float], number: str = "", name: str = "row", **options: Any) -> Any:
        asked = message("inference.ModelInferRequest")(model_name="prices", model_version=number)
        asked.inputs.add(name=name, datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend(numbers)
        service = "inference.GRPCInferenceService"
        _, response, _ = methods(service)["ModelInfer"]
        call = channel.unary_unary(
            f"/{service}/ModelInfer",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return call.future(asked, metadata=((ARM.decode(), "2"),), **options)

    extras = Extras()
    monkeypatch.setattr("v2_cases._catalog", lambda served, predictors, settings: catalog_of(extras, *predictors))
    with serving(*pair(run=run, quick=False)) as served, grpc.insecure_channel(served.grpc) as channel:
        trial = extras.router.trials["prices"]
        assert ask(channel, [1, 2]).result(10).model_version == "2"
        assert (trial.assigned, trial.done, trial.named) == (["2"], [("2", 200)], [])
        trial.forget()
        assert ask(channel, [1, 2], "1").result(10).model_version == "1"
        assert (trial.assigned, trial.done) == ([], [])
        for numbers, name, status in (([1.0, 2.0], "other", 400), ([-1.0, 0.0], "row", 500)):
            trial.forget()
            with pytest.raises(grpc.RpcError):
                ask(channel, numbers, name=name).result(10)
            assert (trial.assigned, trial.done) == (["2"], [("2", status)])
        trial.forget()
        left = ask(channel, [7, 0])
        assert began.wait(10)
        left.cancel()
        time.sleep(0.1)
        go.set()
        wait_until(lambda: not served.catalog.models["prices"].versions["2"].queue.requests)
        assert (trial.assigned, trial.done) == (["2"], [("2", LEFT)])
