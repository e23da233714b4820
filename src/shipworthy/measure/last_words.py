"""What a process that died had to say: the end of its standard error in one line."""

from __future__ import annotations

import re
from pathlib import Path

_TAIL = 16_384
_LONGEST = 300
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>\S+)', re.MULTILINE)
_FATAL = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
_LIBRARY = ("site-packages", "dist-packages", "lib/python3", "<frozen", "shipworthy/")


def last_words(log: Path) -> str:
    """For a fatal signal, what the fault handler says and the user's own line; otherwise the last line of text."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        text = stream.read().decode(errors="replace")
    fatal = list(_FATAL.finditer(text))
    if fatal:
        frames = list(_FRAME.finditer(text, fatal[-1].end()))
        own = next((frame for frame in frames if not any(part in frame["file"] for part in _LIBRARY)), None)
        frame = own or next(iter(frames), None)
        where = f" in {frame['function']} ({Path(frame['file']).name}, line {frame['line']})" if frame else ""
        return f"{fatal[-1][1]}{where}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-_LONGEST:] if lines else ""
