"""Every command of docs/registry.md is carried out, in its order, and prints what stands there."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from registry_cases import evidence, package

from shipworthy.cli import main
from shipworthy.contract import Limits
from shipworthy.registry import Registry
from shipworthy.registry.tables import events

PAGE = (Path(__file__).parents[2] / "docs" / "registry.md").read_text(encoding="utf-8")
AT = "2026-11-22 14:00"
"""A time on the page that stands between its first promotion and its second."""
TEAM = "postgresql://ships@db.example/registry"
BUCKET = "s3://ships/packages"


@dataclass(frozen=True, slots=True)
class Command:
    words: tuple[str, ...]
    printed: str
    """What the page says it prints."""


def commands(page: str) -> list[Command]:
    found = []
    for block in re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = part.partition("\n")
            found.append(Command(tuple(shlex.split(line)), printed))
    return found


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run: times, digests, and the spaces that they move."""
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+\+00:00)?)?", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "DIGEST", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "ID", text)
    text = re.sub(r"off by at most \S+", "off by little", text)
    text = re.sub(r"files, \S+ MB", "files, SIZE", text)
    return [re.sub(r" +", " ", line).strip() for line in text.splitlines()]


def agrees(page: str, printed: str) -> bool:
    """Whether it was printed; a line `...` of the page stands for any lines."""
    pattern = "\n".join(".*" if line == "..." else re.escape(line) for line in plain(page))
    return re.fullmatch(pattern, "\n".join(plain(printed)), flags=re.DOTALL) is not None


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the packages that the page names, a user, and nothing of this machine's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIPWORTHY_REGISTRY", str(tmp_path / "home" / "registry"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SHIPWORTHY_USER", "anna@build")
    package(tmp_path / "digits.ship", evidence(0.9815, 0.0527))
    package(tmp_path / "digits-october.ship", evidence(0.9926, 0.0361), limits=Limits(p99_ms=30.0))
    package(tmp_path / "digits-broken.ship", evidence(0.1, 0.0361))
    return tmp_path


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "anna",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL"]).create_bucket(Bucket="ships")
    yield BUCKET
    server.stop()


@contextmanager
def serving(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The url of a server that the page's command starts, and what it printed."""
    command = [sys.executable, "-m", *words, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        printed = ""
        while "ready: " not in printed:
            line = process.stdout.readline()
            assert line, f"ended with {process.wait()}: {printed}"
            printed += line
        yield re.findall(r"ready: (\S+)", printed)[0], printed
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def served_version(url: str) -> object:
    body = json.dumps({"features": [5.1, 3.5, 1.4, 0.2]}).encode()
    asked = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)["version"]


def carry_out(words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", list(words))
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert (left.value.code or 0, err) == (0, ""), words
    return out


def test_the_page_is_true(shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With one registry in a folder, and the server that follows it from where the page starts it."""
    between = ""
    with ExitStack() as stack:
        url = ""
        for command in alone():
            verb = command.words[1]
            if verb == "serve":
                url, printed = stack.enter_context(serving(command.words))
                assert agrees(command.printed, printed.replace(url, "http://127.0.0.1:8000"))
                continue
            words = tuple(between if word == AT else word for word in command.words)
            out = carry_out(words, capsys, monkeypatch)
            assert agrees(command.printed, out), f"$ {shlex.join(words)}\n{out}"
            if verb in ("promote", "rollback"):
                between = between or datetime.now(UTC).isoformat()
                names = re.findall(r"names digits:(\d+)", out)[0]
                assert not url or becomes(names, url)


@pytest.mark.full
def test_the_page_is_true_of_postgresql_and_s3(
    shop: Path,
    bucket: str,
    database: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    team = [command for command in commands(PAGE) if TEAM in command.words]
    assert [command.words[1] for command in team] == ["push", "list"]
    for command in team:
        words = tuple({TEAM: database, BUCKET: bucket}.get(word, word) for word in command.words)
        out = carry_out(words, capsys, monkeypatch)
        assert agrees(command.printed, out), f"$ {shlex.join(words)}\n{out}"
    assert carry_out(("shipworthy", "verify", "digits:1", "--registry", database), capsys, monkeypatch)


def test_the_python_of_the_page_runs(shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(shop))
    monkeypatch.delenv("SHIPWORTHY_REGISTRY")
    carry_out(("shipworthy", "push", "digits.ship", "--alias", "champion", "--why", "first"), capsys, monkeypatch)
    _, code = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(code, "docs/registry.md", "exec"), {})
    assert capsys.readouterr().out == "digits:1 0.9815 first\n"


def test_a_wrong_clock_is_mended_as_the_page_says(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = datetime.now(UTC).replace(second=0, microsecond=0)
    carry_out(("shipworthy", "push", "digits.ship", "--alias", "champion"), capsys, monkeypatch)
    carry_out(("shipworthy", "push", "digits.ship", "--alias", "champion"), capsys, monkeypatch)
    with Registry() as registry, registry.database.write() as connection:
        for numbers, time_then in ((events.c.number <= 2, at), (events.c.number > 2, at + timedelta(days=36_500))):
            connection.execute(events.update().where(numbers).values(at=time_then))
    assert carry_out(("shipworthy", "rollback", "digits"), capsys, monkeypatch)
    said = json.loads(carry_out(("shipworthy", "history", "digits", "--json"), capsys, monkeypatch))
    assert [("clock" in event["details"], event["number"]) for event in said][:2] == [(True, 5), (False, 4)]
    code, _ = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    code, times = re.subn(r"2026, 11, 22, 14, 5", f"{at.year}, {at.month}, {at.day}, {at.hour}, {at.minute}", code)
    assert times == 1
    exec(compile(code, "docs/registry.md", "exec"), {})
    said = json.loads(carry_out(("shipworthy", "history", "digits", "--json"), capsys, monkeypatch))
    assert all(datetime.fromisoformat(event["at"]) <= datetime.now(UTC) for event in said)
    assert ["was_at" in event["details"] for event in said] == [True, True, True, False, False]
    assert carry_out(("shipworthy", "promote", "digits:2"), capsys, monkeypatch)


def test_every_verb_of_the_registry_is_on_the_page() -> None:
    said = {command.words[1] for command in commands(PAGE)} | set(re.findall(r"`shipworthy (\w+)", PAGE))
    assert said >= {"push", "pull", "list", "show", "diff", "promote", "rollback", "history", "delete", "gc", "serve"}


def alone() -> list[Command]:
    return [command for command in commands(PAGE) if TEAM not in command.words]


def becomes(version: str, url: str) -> bool:
    """Whether the server takes that version up; how soon is for the tests of following."""
    until = time.monotonic() + 30
    while served_version(url) != version:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
