"""What users write into a registry: reasons, tags, details; refused before anything is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from unicodedata import category

from ..errors import RegistryError

LONGEST = 10_000
_TAGS = 100
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They reorder what is shown: https://www.unicode.org/reports/tr9/"""


def check_text(what: str, text: object, longest: int = LONGEST) -> str:
    """The text itself. Raises RegistryError for what no database stores, a NUL character or half a surrogate pair; and
    for what does not stay on its line where it is shown: control characters, ends of lines, changes of direction."""
    if not isinstance(text, str):
        raise RegistryError(what, f"expected a text, got {type(text).__name__}", "write it as a string")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise RegistryError(what, "has a character that cannot be stored", "leave out NUL and lone surrogates")
    moves = next(filter(moves_the_cursor, text), None)
    if moves is not None:
        reason = f"has the control character U+{ord(moves):04X}"
        raise RegistryError(what, reason, "write one line of plain text")
    if len(text) > longest:
        raise RegistryError(what, f"has {len(text)} characters, at most {longest} are stored", "say it shorter")
    return text


def moves_the_cursor(character: str) -> bool:
    """Whether a terminal would do something else than show it, or show what follows in another order."""
    return category(character) in ("Cc", "Zl", "Zp") or character in _DIRECTIONS


def one_line(text: str) -> str:
    """The same words on one line, without what `check_text` refuses; most texts are that already."""
    if not any(map(moves_the_cursor, text)):
        return text
    return " ".join("".join(" " if moves_the_cursor(character) else character for character in text).split())


def check_tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    given = dict(tags or {})
    if len(given) > _TAGS:
        raise RegistryError("tags", f"there are {len(given)}, at most {_TAGS} are stored", "leave some out")
    for key, value in given.items():
        if not check_text("a tag's name", key, 200).strip():
            raise RegistryError("a tag's name", "is empty", "give it one")
        check_text(f"tag {key!r}", value)
    return given


def check_details(details: Mapping[str, Any] | None) -> dict[str, Any]:
    """As they will be read again. Raises RegistryError where JSON cannot hold them."""
    try:
        text = json.dumps(dict(details or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RegistryError(
            "details", f"cannot be written as JSON: {error}", "use finite numbers, texts, lists"
        ) from None
    if len(text) > LONGEST * 10:
        raise RegistryError("details", f"are {len(text)} characters long, at most {LONGEST * 10}", "leave some out")
    stored: dict[str, Any] = json.loads(text)
    return stored


def check_limit(limit: int | None) -> int | None:
    if limit is not None and limit < 0:
        raise RegistryError("limit", f"is {limit}", "give how many are wanted, or None for all")
    return limit
