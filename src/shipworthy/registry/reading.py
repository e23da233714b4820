"""What is taken out of a registry's packages: the whole, or one of their files."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import RegistryError
from ..package.format1 import first_fault
from . import versions
from .blobs import Blobs
from .cache import assemble, cache_folder, cached
from .database import Database
from .records import Version
from .versions import Blob

T = TypeVar("T", bound=BaseModel)


def pull(database: Database, blobs: Blobs, version: Version, to: Path | None) -> Path:
    """The version's `.ship` file: in the cache, where `to` is None, else in the folder or under the name that it is."""
    if to is None:
        found = cached(version.digest)
        if found is not None:
            return found
        file = cache_folder() / f"{version.digest}.ship"
    else:
        file = to / f"{version.model}-{version.number}.ship" if to.is_dir() else to
    return assemble(blobs, _members(database, version), version.digest, file)


def read_member(database: Database, blobs: Blobs, version: Version, path: str) -> bytes:
    """One file of the package, which every package has."""
    member = next(member for member in _members(database, version) if member.path == path)
    return b"".join(blobs.chunks(member.sha256, member.size))


def parse_member(database: Database, blobs: Blobs, version: Version, path: str, kind: type[T]) -> T:
    """One of its JSON files. Raises RegistryError where a newer Shipworthy wrote what this one cannot read."""
    text = read_member(database, blobs, version, path)
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise RegistryError(f"{version.name}/{path}", first_fault(error), "update shipworthy") from None


def _members(database: Database, version: Version) -> tuple[Blob, ...]:
    members = database.ask(lambda connection: versions.blobs_of(connection, version.digest))
    if not members:
        raise RegistryError(version.name, "has just been deleted and freed", "choose another version")
    return members
