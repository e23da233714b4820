"""Rollouts over HTTP, end to end: two workers, callers with and without keys, labels, and verdicts that are acted on.

Real versions of a digits classifier; every number of a test is what the callers themselves have seen."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import digit_packages
import httpx
import pytest
from lifecycle_cases import Served, serving, until

from shipworthy.predict.ids import digest_of
from shipworthy.registry import Registry
from shipworthy.rollout import Rollout, Rollouts, Spec
from shipworthy.rollout.keys import prediction_key

GOOD, WORSE, EQUAL, FAILS, SLOW, WEAK = range(1, 7)
"""Versions of the registry: the same weights but for `WORSE`, which are disturbed, and `WEAK`, which saw less data."""
BATCH = 40
"""Labels that are sent together."""
KEYS = 300
"""Callers of each thread, each of which comes again and again."""


class Callers:
    """Threads that ask for images that no version was trained with, and say later what was to be seen there."""

    def __init__(
        self, port: int, rollout: int, secret: bytes = bytes(32), *, clients: int = 3, labels: bool, keys: bool
    ) -> None:
        """`secret` is the registry's key."""
        self._url, self._salt, self._secret = f"http://127.0.0.1:{port}", b"%d:" % rollout, secret
        self._labels, self._keys = labels, keys
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on, args=(seed,)) for seed in range(clients)]
        self.outcomes: Counter[tuple[int, str]] = Counter()
        """How often: a status, and the version that answered."""
        self.refused: list[tuple[str, int, float]] = []
        """Key, status, and place of the key among all, of those that were not answered with success."""
        self.labels: Counter[str] = Counter()
        self.failures: list[BaseException] = []

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)
        assert not self.failures, self.failures

    @property
    def statuses(self) -> set[int]:
        return {status for status, _ in self.outcomes}

    @property
    def versions(self) -> set[str]:
        return {version for status, version in self.outcomes if status == 200}

    def _ask_on(self, seed: int) -> None:
        try:
            with httpx.Client(base_url=self._url, timeout=30) as client:
                self._ask_with(client, random.Random(seed), seed)
        # It is raised in the test's own thread.
        except BaseException as error:  # noqa: BLE001
            self.failures.append(error)

    def _ask_with(self, client: httpx.Client, draw: random.Random, seed: int) -> None:
        pixels, classes = digit_packages.images()
        known: list[dict[str, object]] = []
        number = 0
        while not self._stopped.is_set():
            number += 1
            place = draw.randrange(len(classes))
            key = f"caller-{seed}-{number % KEYS}" if self._keys and number % 2 else ""
            headers = {"x-assignment-key": key} if key else {}
            answer = client.post("/models/digits/predict", json={"image": pixels[place].tolist()}, headers=headers)
            said: dict[str, Any] = answer.json()
            self.outcomes[answer.status_code, str(said.get("version"))] += 1
            if answer.status_code != 200:
                digest = digest_of(self._salt + key.encode(), self._secret)
                self.refused.append((key, answer.status_code, digest / 2**64))
                continue
            known.append({"prediction_id": said["prediction_id"], "label": int(classes[place])})
            if self._labels and len(known) >= BATCH:
                taken = client.post("/models/digits/feedback", json={"feedback": known})
                assert taken.status_code == 200, taken.text
                self.labels.update(taken.json()["counts"])
                known.clear()


class World:
    """A server of two workers, and its registry."""

    def __init__(self, served: Served, registry: Registry) -> None:
        self.served, self.registry, self.rollouts = served, registry, Rollouts(registry)

    def version(self) -> set[object]:
        asked = {"image": [0.0] * digit_packages.PIXELS}
        answers = [httpx.post(f"{self.served.url}/models/digits/predict", json=asked) for _ in range(8)]
        return {answer.json()["version"] for answer in answers}

    def champion(self, version: int) -> None:
        self.registry.promote(f"digits:{version}")
        until(lambda: self.version() == {str(version)})

    def run(
        self,
        mode: str,
        challenger: int,
        *,
        within_s: float = 90,
        labels: bool = True,
        keys: bool = True,
        **options: Any,
    ) -> tuple[Rollout, Callers]:
        """A rollout from its start to its end, with callers all the time, and some after it."""
        spec = Spec.from_options(mode, {"auto": True, "timeout_s": within_s, **options})
        rollout = self.rollouts.start("digits", f"digits:{challenger}", spec)
        try:
            secret = prediction_key(self.registry)
            with Callers(self.served.port, rollout.id, secret, labels=labels, keys=keys) as callers:
                until(lambda: not self.rollouts.get(rollout.id).running, within_s + 10)
                time.sleep(0.5)
        finally:
            if self.rollouts.get(rollout.id).running:
                self.rollouts.stop("digits")
        ended = self.rollouts.get(rollout.id)
        kinds = [one.kind for one in self.registry.history("digits") if one.details.get("rollout") == rollout.id]
        assert kinds.count("rollout-started") == kinds.count("rollout-ended") == 1
        if labels:
            assert set(callers.labels) <= {"accepted", "late"} and callers.labels["accepted"] > 0, callers.labels
        return ended, callers


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root, good = tmp_path_factory.mktemp("digits"), digit_packages.trained()
    return [
        digit_packages.package(root / "good", good),
        digit_packages.package(root / "worse", good.disturbed(1.0)),
        digit_packages.package(root / "equal", good),
        digit_packages.package(root / "fails", good, fails=True),
        digit_packages.package(root / "slow", good, slow=60),
        digit_packages.package(root / "weak", digit_packages.trained(100)),
    ]


@pytest.fixture(scope="module")
def world(packages: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with _world(packages, tmp_path_factory.mktemp("registry"), tmp_path_factory.mktemp("cache")) as made:
        yield made


@contextmanager
def _world(packages: list[Path], folder: Path, cache: Path) -> Iterator[World]:
    with Registry(folder, who="tester") as registry:
        for package in packages:
            registry.register(package, git_commit="")
        registry.promote(f"digits:{GOOD}")
        env = {"XDG_CACHE_HOME": str(cache)}
        with serving("digits", "--registry", folder, "--workers", 2, env=env) as served:
            yield World(served, registry)


def test_a_promotion_is_live_soon_on_every_worker(world: World) -> None:
    with Callers(world.served.port, 0, labels=False, keys=False) as callers:
        until(lambda: callers.versions)
        world.registry.promote(f"digits:{EQUAL}")
        until(lambda: world.version() == {str(EQUAL)}, 2.0)
    assert (callers.statuses, callers.versions) == ({200}, {str(GOOD), str(EQUAL)})


def test_shadow_rolls_back_what_is_worse(world: World) -> None:
    world.champion(GOOD)
    ended, callers = world.run("shadow", WORSE)
    assert (ended.state, world.registry.aliases("digits")) == ("rollback", {"champion": GOOD}), ended.reason
    assert (callers.statuses, callers.versions) == ({200}, {str(GOOD)}), callers.outcomes


@pytest.mark.full
def test_shadow_promotes_what_is_better(world: World) -> None:
    world.champion(WEAK)
    ended, callers = world.run("shadow", GOOD)
    assert (ended.state, world.registry.aliases("digits")) == ("promote", {"champion": GOOD}), ended.reason
    assert callers.statuses == {200} and callers.versions <= {str(WEAK), str(GOOD)}
    until(lambda: world.version() == {str(GOOD)})


@pytest.mark.full
def test_shadow_accepts_what_is_equal(world: World) -> None:
    world.champion(GOOD)
    ended, callers = world.run("shadow", EQUAL, labels=False)
    assert ended.state == "promote", ended.reason
    assert (callers.statuses, ended.tally.pairs + ended.tally.evicted) == ({200}, 0)


@pytest.mark.full
def test_shadow_rolls_back_what_fails_at_times(world: World) -> None:
    """No caller ever sees it."""
    world.champion(GOOD)
    ended, callers = world.run("shadow", FAILS, labels=False)
    assert (ended.state, world.registry.aliases("digits")) == ("rollback", {"champion": GOOD}), ended.reason
    assert (callers.statuses, callers.versions) == ({200}, {str(GOOD)}), callers.outcomes
    assert ended.tally.failed[0] == 0 < ended.tally.failed[1]


@pytest.mark.full
def test_shadow_rolls_back_what_is_slow(world: World) -> None:
    world.champion(GOOD)
    ended, callers = world.run("shadow", SLOW, labels=False)
    assert (ended.state, world.registry.aliases("digits")) == ("rollback", {"champion": GOOD}), ended.reason
    assert callers.statuses == {200} and callers.versions == {str(GOOD)}
    assert ended.tally.slow[1] > ended.tally.slow[0]


@pytest.mark.full
@pytest.mark.parametrize("keys", [True, False], ids=["keys", "chance"])
def test_canary_rolls_back_what_is_worse(world: World, keys: bool) -> None:
    world.champion(GOOD)
    ended, callers = world.run("canary", WORSE, keys=keys, ramp="10,50", stage_requests=300, stage_seconds=1)
    assert (ended.state, world.registry.aliases("digits")) == ("rollback", {"champion": GOOD}), ended.reason
    assert (callers.statuses, callers.versions) == ({200}, {str(GOOD), str(WORSE)})
    until(lambda: world.version() == {str(GOOD)})


@pytest.mark.full
def test_canary_promotes_what_is_better(world: World) -> None:
    world.champion(WEAK)
    ended, callers = world.run("canary", GOOD, keys=False, ramp="10,50", stage_requests=300, stage_seconds=1)
    assert (ended.state, world.registry.aliases("digits")) == ("promote", {"champion": GOOD}), ended.reason
    assert callers.statuses == {200}
    until(lambda: world.version() == {str(GOOD)})


@pytest.mark.full
def test_ab_holds_or_accepts_what_is_equal(world: World) -> None:
    world.champion(GOOD)
    ended, callers = world.run("ab", EQUAL, keys=False, within_s=30)
    assert ended.state in ("hold", "promote"), ended.reason
    assert callers.statuses == {200}
    assert ended.tally.assigned[0] > 0 < ended.tally.assigned[1]


@pytest.mark.full
def test_canary_rolls_back_what_fails_at_times(world: World) -> None:
    """Who was the champion's all the time has seen nothing of it."""
    world.champion(GOOD)
    ended, callers = world.run("canary", FAILS, labels=False, ramp="5,50", stage_requests=300, stage_seconds=1)
    assert (ended.state, world.registry.aliases("digits")) == ("rollback", {"champion": GOOD}), ended.reason
    assert callers.statuses == {200, 500}
    assert ended.tally.failed[0] == 0 < ended.tally.failed[1]
    # The place of a key decides: the challenger had the lower half at most.
    assert all(place < 0.5 for key, _, place in callers.refused if key)
    until(lambda: world.version() == {str(GOOD)})


@pytest.mark.full
def test_canary_rolls_back_what_is_slow(world: World) -> None:
    world.champion(GOOD)
    ended, callers = world.run("canary", SLOW, labels=False, ramp="10,50", stage_requests=300, stage_seconds=1)
    assert (ended.state, world.registry.aliases("digits")) == ("rollback", {"champion": GOOD}), ended.reason
    assert callers.statuses == {200}
    until(lambda: world.version() == {str(GOOD)})
