"""Registries whose versions are packages that can be served, and servers that follow them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from lifecycle_cases import version_of

from shipworthy.compose import Registered, parts_of
from shipworthy.registry import Registry
from shipworthy.server import Server, process
from shipworthy.server.plan import Plan

STORED = Path(__file__).parents[1] / "package" / "stored" / "format1.ship"
FEATURES = {"features": [5.1, 3.5, 1.4, 0.2]}
VERSIONS = 4
WITHOUT_ENGINE = 4
"""The version that no host can serve."""


def make_registry(url: str | Path, work: Path, *, artifacts: Path | None = None) -> None:
    """Versions 1 to 4 of iris, of which the last needs an engine that is not there; 1 is the champion."""
    with Registry(url, who="tester", artifacts=None if artifacts is None else str(artifacts)) as registry:
        for second in range(1, VERSIONS + 1):
            package = version_of(STORED, work / f"v{second}", second)
            if second == WITHOUT_ENGINE:
                _need(package, "tensorrt")
            registry.register(package, git_commit="")
        registry.promote("iris:1")


def _need(package: Path, engine: str) -> None:
    """Let every variant need this engine."""
    file = package / "manifest.json"
    manifest: dict[str, Any] = json.loads(file.read_bytes())
    for variant in manifest["variants"]:
        variant["requires"]["engine"] = engine
    text = json.dumps(manifest).encode()
    file.write_bytes(text)
    (package / "DIGEST").write_text(hashlib.sha256(text).hexdigest() + "\n")


def kinds(registry: Registry, kind: str) -> list[Any]:
    return [event for event in registry.history("iris") if event.kind == kind]


def graph_of(folder: Path, work: Path) -> Path:
    """The file of the graph, which all versions share, in the registry's store."""
    graph = next((work / "v1" / "variants").glob("*/model.onnx"))
    digest = hashlib.sha256(graph.read_bytes()).hexdigest()
    [file] = (folder / "blobs").rglob(digest)
    return file


class Following:
    """A server in this process, and what is in it."""

    def __init__(self, server: Server, parts: Registered) -> None:
        self.server, self.parts = server, parts
        self.port = int(server.url.rsplit(":", 1)[1])
        self.http = httpx.Client(base_url=server.url, timeout=20)

    @property
    def follower(self) -> Any:
        return self.parts._follower

    def ask(self, key: str | None = None) -> dict[str, Any]:
        headers = {} if key is None else {"x-assignment-key": key}
        answer = self.http.post("/predict", json=FEATURES, headers=headers)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    def version(self) -> str:
        return str(self.ask()["version"])

    @property
    def trials(self) -> dict[str, Any]:
        return self.parts.router.trials


@contextmanager
def following(url: str | Path, *names: str, before: Callable[[Registered], None] | None = None) -> Iterator[Following]:
    """Serve these names; `before` sees what the registry puts in, before anything is served."""
    made: list[Registered] = []

    def compose(plan: Plan) -> Registered:
        parts = parts_of(plan)
        assert isinstance(parts, Registered)
        if before is not None:
            before(parts)
        made.append(parts)
        return parts

    with Server(names=names or ["iris@champion"], registry=str(url), compose=compose, port=0) as server:
        one = Following(server, made[0])
        with one.http:
            yield one


def be_private(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Nothing of the user's own, and no more patience at the end than a test needs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("XDG_STATE_HOME", str(cache.with_name("state")))
    monkeypatch.setenv("SHIPWORTHY_USER", "tester")
    # A server in a test's own process has no clients that are still on their way when it ends.
    monkeypatch.setattr(process, "PARTING_S", 0.01)
