"""The settings of a contract as Markdown, made from the models themselves.

`python -m shipworthy.contract.reference docs/contract.md` writes them anew into a page that ends with them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from .settings import Setting, settings, summary
from .write import inline

HEADING = "## All settings"


def settings_markdown() -> str:
    """A table for each part of the contract, under one heading."""
    parts = [HEADING, "", "Keys in **bold** are required. What is not said has the default.", ""]
    for path, group in groupby(settings(), key=lambda setting: setting.path[:-1]):
        header = ".".join(map(str, path))
        parts += [f"### `[{header}]`" if path else "### At the top", ""]
        if path:
            parts += [summary(path), ""]
        parts += ["| key | type | default | |", "|---|---|---|---|", *map(_row, group), ""]
    return "\n".join(parts).rstrip() + "\n"


def _row(setting: Setting) -> str:
    key = f"`{setting.path[-1]}`"
    if setting.default is ...:
        key, default = f"**{key}**", ""
    elif setting.default is None:
        default = ""
    else:
        default = f"`{inline(setting.default)}`"
    return f"| {key} | {setting.type.replace('|', '&#124;')} | {default} | {setting.doc} |"


def rewritten(page: str) -> str:
    """The page with its last part, from the heading on, made anew."""
    before, heading, _ = page.partition(f"{HEADING}\n")
    if not heading:
        raise ValueError(f"the page has no heading {HEADING!r}")
    return before + settings_markdown()


def main(arguments: Sequence[str]) -> None:
    for name in arguments:
        path = Path(name)
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
