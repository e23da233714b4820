"""The registry's tables where they are read: on a terminal, in a pipe, on a host with the base install."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from shipworthy.registry import Registry, tables

SHIPWORTHY = (sys.executable, "-m", "shipworthy")


def test_the_verbs_need_nothing_that_builds(registry: Path) -> None:
    """A host that serves has the base install, and looks into the registry too."""
    absent = ("torch", "scipy", "jinja2", "altair", "pyarrow", "psutil", "onnx", "cloudpickle", "nncf", "vl_convert")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from shipworthy.cli import app\n"
        "for words in (['list', 'digits'], ['show', 'digits:2'], ['diff', 'digits:1', 'digits:2'], ['history']):\n"
        "    app(words, standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "accuracy, holdout" in done.stdout


def shown_on_a_terminal(width: int, *words: str) -> str:
    """What a terminal of that width gets, without its colours."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm-256color"}
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        environment.pop(name, None)
    child = subprocess.Popen([*SHIPWORTHY, *words], stdout=follower, stderr=subprocess.PIPE, env=environment)
    os.close(follower)
    shown = b""
    # Linux says with an error that the other side has closed.
    with suppress(OSError):
        while part := os.read(leader, 65536):
            shown += part
    os.close(leader)
    assert child.wait(timeout=60) == 0, child.stderr and child.stderr.read()
    assert child.stderr is not None
    child.stderr.close()
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("words", [("list", "digits"), ("diff", "digits:1", "digits:3")], ids=["list", "diff"])
def test_a_terminal_gets_a_table_that_fits(registry: Path, words: tuple[str, ...]) -> None:
    narrow = shown_on_a_terminal(80, *words)
    assert "────" in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    assert re.search(r"0\.9815", narrow), "figures are not folded"


@pytest.mark.full
def test_what_a_terminal_would_obey_is_shown_as_a_sign(registry: Path) -> None:
    """Another program wrote it into the database, where no client of ours would have let it through."""
    bad = "fine\x1b[2J\x1b]0;title\nchampion: 9 → 1\u202e\x7f\x9b"
    with Registry(registry) as opened, opened.database.write() as connection:
        connection.execute(tables.events.update().values(why=bad, who=bad))
        connection.execute(tables.versions.update().values(why=bad, who=bad, tags={bad: bad}))
    shown = "fine␛[2J␛]0;title␊champion: 9 → 1\ufffd␡\ufffd"
    for words in (
        ("history",),
        ("list", "digits"),
        ("show", "digits:1"),
        ("show", "digits"),
        ("diff", "digits:1", "digits:2"),
        ("history", "digits", "--at", "now"),
    ):
        out = subprocess.run([*SHIPWORTHY, *words], check=True, capture_output=True, text=True).stdout
        assert shown in out, words
        assert not set(out) & set("\x1b\x07\x7f\x9b\u202e"), words
    on_a_terminal = shown_on_a_terminal(200, "history", "digits")
    assert "␛[2J␛]0;title␊" in on_a_terminal


def test_messages_are_shown_as_signs_too(registry: Path) -> None:
    told = subprocess.run([*SHIPWORTHY, "show", "digits@a\x1b[2J"], check=False, capture_output=True, text=True)
    assert told.returncode == 2
    assert "\x1b" not in told.stderr and told.stderr.count("\n") == 2
    wrong = subprocess.run(
        [*SHIPWORTHY, "list", "--registry", "sqlite:///file:\x1b]0;"], check=False, capture_output=True, text=True
    )
    assert wrong.returncode == 2 and "\x1b" not in wrong.stderr and "␛" in wrong.stderr


def test_a_pipe_gets_whole_rows_and_may_be_closed(registry: Path) -> None:
    with Registry(registry) as opened:
        opened.promote("digits:2", why="because " * 40)
    piped = subprocess.run([*SHIPWORTHY, "history", "digits"], check=True, capture_output=True, text=True)
    assert "─" not in piped.stdout
    assert "\x1b" not in piped.stdout
    assert len(piped.stdout.splitlines()) == 7, "a head, five events of the start and a promotion"
    quoted = " ".join(f"'{word}'" for word in (*SHIPWORTHY, "history", "digits"))
    cut = subprocess.run(["bash", "-c", f"{quoted} | head -n 1"], check=True, capture_output=True, text=True)
    assert cut.stdout.startswith("when (UTC)")
    assert cut.stderr == ""
