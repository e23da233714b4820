"""How `shipworthy serve` is told to watch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shipworthy import compose
from shipworthy.cli.app import app
from shipworthy.errors import MonitorError
from shipworthy.monitor.options import MonitorOptions


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `serve` was called with."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(compose, "serve", lambda packages, **options: calls.append(options))
    return calls


def ask(*words: object) -> BaseException | None:
    found = CliRunner().invoke(app, ["serve", "./iris.ship", *map(str, words)])
    return None if found.exit_code == 0 else found.exception


def test_it_watches_unless_it_is_told_not_to(told: list[dict[str, Any]]) -> None:
    assert ask() is None and ask("--no-monitor") is None
    assert [one["monitor"] for one in told] == [MonitorOptions(), None]


def test_every_option_is_passed_on(told: list[dict[str, Any]], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    words: list[object] = ["--monitor-rate", 50, "--monitor-one-in", 3, "--monitor-keep", 0, "--monitor-baseline", 1000]
    words += ["--monitor-place", "s3://bucket/states", "--monitor-nodes", 4]
    words += ["--monitor-webhook", "https://a.example/x", "--monitor-webhook", "https://b.example"]
    assert ask(*words, "--monitor-webhook-secret-file", secret) is None
    assert told[0]["monitor"] == MonitorOptions(
        rate=50,
        one_in=3,
        keep=0,
        baseline=1000,
        place="s3://bucket/states",
        nodes=4,
        webhooks=("https://a.example/x", "https://b.example"),
        webhook_secret="hush",
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), (b" \n", "holds no secret"), (b"\xff", "cannot"), (b"x" * 5000, "long")],
)
def test_a_secret_that_is_none_is_refused(
    told: list[dict[str, Any]], tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    error = ask("--monitor-webhook", "https://a.example", "--monitor-webhook-secret-file", file)
    assert isinstance(error, MonitorError) and reason in str(error)
    assert "xxxx" not in str(error) and told == []


def test_a_secret_without_an_address_is_refused(told: list[dict[str, Any]], tmp_path: Path) -> None:
    error = ask("--monitor-webhook-secret-file", tmp_path / "secret")
    assert isinstance(error, MonitorError) and "--monitor-webhook" in str(error)
    assert isinstance(ask("--monitor-webhook", "ftp://a.example"), MonitorError)
    assert isinstance(ask("--monitor-baseline", "5"), MonitorError)
    assert told == []
