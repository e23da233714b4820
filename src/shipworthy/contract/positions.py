"""Where the keys of a TOML text stand: tomllib gives values without their lines."""

from __future__ import annotations

import bisect
import re
import tomllib

from .faults import KeyPath

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''',
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


class Positions:
    """The line (from 1) of every key and list item of `text`, which tomllib must have accepted."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._at = 0
        self._seen = -1
        self._lines: dict[KeyPath, int] = {}
        self._lists: dict[KeyPath, int] = {}
        self._document()

    def line(self, path: KeyPath) -> int | None:
        """The line of a key, or of the closest table around it that has one; None where none has."""
        for length in range(len(path), 0, -1):
            if (line := self._lines.get(path[:length])) is not None:
                return line
        return None

    def __contains__(self, path: KeyPath) -> bool:
        return path in self._lines

    def _document(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._ahead():
            if self._take("["):
                repeated = self._take("[")
                table = self._within(self._keys((), repeated))
                self._take("]]" if repeated else "]")
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _pair(self, table: KeyPath) -> None:
        path = self._keys(table)
        self._take("=")
        self._value(path)

    def _keys(self, table: KeyPath, repeated: bool = False) -> KeyPath:
        """A dotted key. The last part of a [[header]] gets the number of its table in the list."""
        start, path = self._at, table
        while True:
            self._skip(_SPACE)
            path = (*self._within(path), _unquoted(self._skip(_KEY)))
            self._lines.setdefault(path, self._line(start))
            self._skip(_SPACE)
            if not self._take("."):
                break
        if repeated:
            self._lists[path] = self._lists.get(path, -1) + 1
            self._lines[(*path, self._lists[path])] = self._line(start)
        return path

    def _within(self, path: KeyPath) -> KeyPath:
        """A path that goes through a list of tables goes through the latest of them."""
        return (*path, self._lists[path]) if path in self._lists else path

    def _value(self, path: KeyPath) -> None:
        self._skip(_SPACE)
        if self._take("["):
            self._items(path)
        elif self._take("{"):
            self._skip(_BLANK)
            while self._ahead() and not self._take("}"):
                self._pair(path)
                self._skip(_BLANK)
                self._take(",")
                self._skip(_BLANK)
        elif not self._skip(_STRING):
            self._skip(_SCALAR)

    def _items(self, path: KeyPath) -> None:
        self._skip(_BLANK)
        index = 0
        while self._ahead() and not self._take("]"):
            self._lines[(*path, index)] = self._line(self._at)
            self._value((*path, index))
            self._skip(_BLANK)
            self._take(",")
            self._skip(_BLANK)
            index += 1

    def _ahead(self) -> bool:
        """Whether there is more to read. A step that read nothing ends the scan: no text may hold it up."""
        stuck = self._at == self._seen
        self._seen = self._at
        return not stuck and self._at < len(self._text)

    def _take(self, token: str) -> bool:
        found = self._text.startswith(token, self._at)
        self._at += len(token) * found
        return found

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group()

    def _line(self, offset: int) -> int:
        return bisect.bisect_left(self._breaks, offset) + 1


def _unquoted(key: str) -> str:
    if key.startswith(('"', "'")):
        return str(tomllib.loads(f"key = {key}")["key"])
    return key
