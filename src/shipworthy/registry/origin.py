"""Who changes a registry, and from which commit."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path

VARIABLE = "SHIPWORTHY_USER"
_GIT_S = 5.0


def who_am_i() -> str:
    """`$SHIPWORTHY_USER`, else `user@host`."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


def commit_here() -> str | None:
    """HEAD of the repository that the working folder is in, with a `+` where tracked files differ from it.

    None outside of a repository, before the first commit, without git, and where git does not answer soon."""
    try:
        here = Path.cwd()
    except OSError:  # the working folder has been removed
        return None
    if not any((folder / ".git").exists() for folder in (here, *here.parents)) or shutil.which("git") is None:
        return None
    # No monitor of the repository's own choice is started for a question.
    command = ("git", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    try:
        asked = subprocess.run(command, capture_output=True, timeout=_GIT_S, check=False, text=True, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = asked.stdout.splitlines()
    head = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if asked.returncode != 0 or head == "(initial)":
        return None
    return head + ("" if all(line.startswith("#") for line in lines) else "+")
