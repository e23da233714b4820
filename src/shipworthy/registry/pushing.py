"""A package's way into a registry: its blobs first, then its rows in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection

from ..errors import RegistryError
from ..package import Package
from ..package.members import MANIFEST
from . import log, moving, versions
from .blobs import Blobs
from .database import Database
from .figures import figures_of, parameters_of
from .names import Reference
from .records import Version
from .store import claim
from .versions import Blob, Facts

_AT_ONCE = 8


def facts_of(
    package: Package, *, git_commit: str | None, parent: int | None, tags: Mapping[str, str], why: str
) -> Facts:
    """What an audited package says of itself, with what its registrar says."""
    manifest = package.root / MANIFEST
    text = manifest.read_bytes()
    own = Blob(MANIFEST, package.digest, len(text))
    others = (Blob(path, entry.sha256, entry.size) for path, entry in package.manifest.files.items())
    return Facts(
        model=package.manifest.name,
        digest=package.digest,
        manifest=text.decode("utf-8"),
        blobs=(own, *others),
        contract_digest=package.manifest.contract_digest,
        parameters=parameters_of(package.record),
        metrics=figures_of(package.record),
        git_commit=git_commit,
        parent=parent,
        tags=tags,
        why=why,
    )


def push(
    database: Database, blobs: Blobs, facts: Facts, root: Path, *, aliases: Sequence[str], who: str, push_id: str | None
) -> Version:
    """Store the files below `root`, and add the version with its aliases, whole or not at all.

    A push whose id was committed before is not repeated: its version is returned. Files that are in the store already
    are looked at, and replaced where `Blobs.put` finds them damaged."""

    attempts, token = count(), push_id or uuid4().hex

    def work(connection: Connection) -> Version:
        if next(attempts) or push_id:
            earlier = _earlier(connection, facts, token)
            if earlier is not None:
                return earlier
        # Only what some package names is safe from `gc`. Of the rest, what is gone since it was stored or found is
        # stored again, while `gc` waits.
        if not versions.has_package(connection, facts.digest):
            _store(blobs, _missing(blobs, versions.unknown_blobs(connection, facts)), root)
            versions.add_package(connection, facts)
        version = versions.add(connection, facts, who=who, token=token)
        named = versions.aliases_of(connection, facts.model) if aliases else {}
        for alias in aliases:
            before = named.get(alias)
            moving.move(connection, facts.model, alias, version.number, previous=before, who=who, why=facts.why)
        return replace(version, aliases=tuple(sorted(aliases)))

    if not blobs.is_claimed:
        claim(database, blobs)
    _store(blobs, facts.blobs, root)
    return database.transact(work, repeatable=True)


def _store(blobs: Blobs, wanted: Sequence[Blob], root: Path) -> None:
    """Store what is not there, or not whole."""
    _each(lambda blob: blobs.put(blob.sha256, blob.size, root / blob.path), wanted)


def _missing(blobs: Blobs, wanted: Sequence[Blob]) -> list[Blob]:
    """What is not there, of files that were whole a moment ago: everybody waits, so no file is read again."""
    there = _each(lambda blob: blobs.has(blob.sha256, blob.size), wanted)
    return [blob for blob, found in zip(wanted, there, strict=True) if not found]


def _each(work: Callable[[Blob], bool], wanted: Sequence[Blob]) -> list[bool]:
    """Several at once: each waits for the disk or the network."""
    if not wanted:
        return []
    with ThreadPoolExecutor(min(len(wanted), _AT_ONCE), thread_name_prefix="shipworthy-push") as pool:
        return list(pool.map(work, wanted))


def _earlier(connection: Connection, facts: Facts, token: str) -> Version | None:
    event = log.by_token(connection, token)
    if event is None:
        return None
    if event.kind == log.REGISTERED and event.version is not None:
        version = versions.find(connection, Reference(event.model, number=event.version))
        if (version.model, version.digest) == (facts.model, facts.digest):
            return version
    raise RegistryError(token, "names a push of another package", "give each push a name of its own")
