"""Whose blobs lie in a place: a small file there names the registry, and is written once."""

from __future__ import annotations

import errno
from typing import Any

OWNER = "registry-id"
"""Name of that file."""


def owner_of(files: Any, place: str) -> str | None:
    """The id that stands there; None where there is none, or nothing in it."""
    try:
        text: bytes = files.cat_file(f"{place}/{OWNER}")
    except FileNotFoundError:
        return None
    return text.decode("utf-8", "replace").strip() or None


def sign_bucket(files: Any, place: str, text: bytes) -> None:
    """Write the id into a bucket, unless there is one.

    A store that knows no such condition is told to write in any case. Raises what the store raises about anything
    else, because then another may have written at the same moment, and would go on believing that the place is its."""
    target = f"{place}/{OWNER}"
    try:
        files.pipe_file(target, text, mode="create")
    except FileExistsError:
        return
    except Exception as error:
        # An answer may have been lost, and some refuse with an error of their own: what stands there now tells.
        if owner_of(files, place) is not None:
            return
        if not _is_unknown_there(error):
            raise
        files.pipe_file(target, text)


def _is_unknown_there(error: Exception) -> bool:
    """Whether the error says that the client, or the store (HTTP 501), does not know conditions."""
    if isinstance(error, NotImplementedError | TypeError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOSYS:
        return True
    answer = getattr(error.__cause__, "response", None)
    return isinstance(answer, dict) and answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == 501
