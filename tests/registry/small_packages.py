"""Packages that are made in a few milliseconds, from the stored one."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

STORED = Path(__file__).parents[1] / "package" / "stored" / "format1"


def make(folder: Path, *, name: str, card: str, **evidence: object) -> Path:
    """The stored package in `folder`, under another name, with another card, and other `evidence`."""
    shutil.copytree(STORED, folder)
    (folder / "card.md").write_text(card)
    if evidence:
        record = json.loads((folder / "evidence.json").read_bytes())
        (folder / "evidence.json").write_text(json.dumps({**record, **evidence}))
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    manifest["name"] = manifest["contract"]["name"] = name
    for path in manifest["files"]:
        content = (folder / path).read_bytes()
        manifest["files"][path] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    text = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(text)
    (folder / "DIGEST").write_text(hashlib.sha256(text).hexdigest() + "\n")
    return folder


def digest_of(folder: Path) -> str:
    return (folder / "DIGEST").read_text().strip()
