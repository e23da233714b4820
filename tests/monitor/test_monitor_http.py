"""From noise in the requests to an alarm that somebody hears, over HTTP and with two workers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import watched_digits
from receiver_cases import Receiver, receiving
from watching_cases import wait_until

from shipworthy.contract import Array
from shipworthy.monitor.webhooks import verify

from lifecycle_cases import Served, serving  # isort: skip - on the path by watching_cases

pytestmark = pytest.mark.full
SECRET = "a secret of the test"


class Traffic:
    """Callers who ask for images all the time, whose images may become others."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._images: Callable[[int], Iterator[Array]] = watched_digits.clean
        self._stopped = threading.Event()
        self._changed = 0
        self.failures: list[object] = []
        self.answered = 0
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(4)]

    def become(self, images: Callable[[int], Iterator[Array]]) -> float:
        """When that was, in seconds since 1970."""
        self._images, self._changed = images, self._changed + 1
        return time.time()

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, seed: int) -> None:
        try:
            while not self._stopped.is_set():
                changed, images = self._changed, self._images(seed)
                # A connection of each caller's own: the kernel gives some to either worker.
                with httpx.Client(base_url=self._url, timeout=30) as http:
                    while not self._stopped.is_set() and changed == self._changed:
                        answer = http.post("/predict", json={"image": next(images).tolist()})
                        self.answered += 1
                        if answer.status_code != 200:
                            self.failures.append(answer.text)
        except httpx.HTTPError as error:
            self.failures.append(error)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return watched_digits.watched_package(tmp_path_factory.mktemp("watched") / "digits")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@contextmanager
def server(package: Path, tmp_path: Path, *words: object) -> Iterator[Served]:
    with serving(package, "--workers", 2, "--monitor-place", tmp_path / "states", *words) as made:
        yield made


def view(server: Served) -> dict[str, Any]:
    """Of the only version; empty before there is one."""
    versions = httpx.get(f"{server.url}/models/digits/monitor", timeout=60).json()["versions"]
    return versions[0] if versions else {}


def standing(server: Served) -> list[dict[str, Any]]:
    return [alarm for alarm in view(server).get("alarms", ()) if alarm["acknowledged"] is None]


def metric(server: Served, name: str) -> float:
    """The sum of all series of that name."""
    lines = httpx.get(f"{server.url}/metrics", timeout=60).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"shipworthy_monitor_{name}{{"))


def monitor_process(server: Served) -> int | None:
    for child in server._children():
        # It may have just been killed.
        with suppress(FileNotFoundError, ProcessLookupError):
            said = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if b"shipworthy.compose" in said and b"monitor" in said:
                return child
    return None


def test_noise_raises_an_alarm_that_reaches_whoever_has_to_know(
    package: Path, tmp_path: Path, receiver: Receiver
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    hook = ("--monitor-webhook", receiver.url, "--monitor-webhook-secret-file", secret)
    with server(package, tmp_path, *hook) as served, Traffic(served.url) as traffic:
        wait_until(lambda: view(served).get("scored", 0) > 1500, 60)
        calm = view(served)
        assert calm["alarms"] == [] and receiver.got == [] and metric(served, "evidence_ratio") < 1
        assert metric(served, "alarms") == 0
        assert calm["scored"] <= calm["requests"] <= traffic.answered + 8

        began = traffic.become(watched_digits.noisy)
        wait_until(lambda: standing(served), 30)
        (message, *_) = receiver.wait(1, 20)
        alarms = standing(served)
        bets = next(alarm for alarm in alarms if alarm["detector"] == "sequential")
        assert "image" in bets["moved"][0]["title"], bets["moved"][0]
        assert bets["classes"] or bets["moved"]
        assert began - 3 < bets["began"] <= bets["raised"], "when it began is known to within some requests"
        assert bets["raised"] - began < 20
        assert metric(served, "evidence_ratio") >= 1 and metric(served, "alarms") == len(alarms)
        stamp, signed = (message.headers[f"shipworthy-{name}"] for name in ("timestamp", "signature"))
        assert verify(SECRET, stamp, message.body, signed)
        assert message.json["alarm"]["id"] in {alarm["id"] for alarm in alarms}

        def evidence(least: float, most: float) -> float:
            points = [one["evidence"] for one in view(served)["timeline"] if least < one["at"] < most]
            return max(points, default=0.0)

        wait_until(lambda: evidence(began + 2, began + 60) >= 1, 40)
        assert evidence(0, began - 2) < 1, "the picture shows when it began"

        for alarm in alarms:
            said = {"alarm": alarm["id"], "who": "ada", "why": "a test"}
            told = httpx.post(f"{served.url}/models/digits/monitor/acknowledge", json=said, timeout=60)
            assert told.status_code == 200, told.text
        assert all(one["who"] == "ada" for one in view(served)["alarms"] if one["id"] in {a["id"] for a in alarms})
        wait_until(lambda: any(one.json["event"] == "acknowledged" for one in receiver.got), 20)
    assert not traffic.failures


def test_a_restart_of_the_server_goes_on_with_what_was_known(package: Path, tmp_path: Path) -> None:
    with server(package, tmp_path) as served:
        with Traffic(served.url) as traffic:
            wait_until(lambda: view(served).get("scored", 0) > 500, 60)
        served.signal(signal.SIGTERM)
        assert served.wait() == 0
    with server(package, tmp_path) as again:
        with Traffic(again.url) as more:
            wait_until(lambda: more.answered > 50)
        wait_until(lambda: view(again).get("requests", 0) == traffic.answered + more.answered, 30)
        assert [*(tmp_path / "states" / "digits").iterdir()]
    assert not traffic.failures and not more.failures


def test_serving_goes_on_where_the_monitor_process_is_killed(package: Path, tmp_path: Path) -> None:
    with server(package, tmp_path) as served, Traffic(served.url) as traffic:
        # Its state was saved at least once.
        wait_until(lambda: [*tmp_path.glob("states/digits/*/*/state")], 60)
        known = view(served)["scored"]
        killed = monitor_process(served)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: monitor_process(served) not in (None, killed), 30)
        wait_until(lambda: view(served).get("scored", 0) > known + 1500, 60)
        answered = traffic.answered
        wait_until(lambda: traffic.answered > answered + 100)
        assert not standing(served)
    assert not traffic.failures


def test_a_package_without_a_reference_starts_nothing(package: Path, tmp_path: Path) -> None:
    plain = package.with_name("digits-plain")
    with server(plain, tmp_path) as served:
        assert served.ask()[0] == 422
        time.sleep(1)
        assert monitor_process(served) is None
        assert httpx.get(f"{served.url}/models/digits/monitor").status_code == 404
    with serving(package, "--no-monitor") as served:
        assert served.ask()[0] == 422
        assert monitor_process(served) is None
    with serving(plain, "--monitor-baseline", 100) as served, Traffic(served.url):
        wait_until(lambda: view(served).get("promise"), 60)
        assert view(served)["promise"]["reference"] <= 100
