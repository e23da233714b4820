"""What may be pulled from MLflow: `models:/digits/3`, `models:/digits@champion`, `runs:/<id>/model`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import RegistryError
from .connection import ABSENT, Server

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException

DIGEST = "shipworthy.digest"
"""Tag of an MLflow version: the digest of the package that it holds, by which either side knows it again."""
GIT_COMMIT = "shipworthy.git_commit"

NAME = re.compile(r"[^/:@'\"`\x00-\x1f]+")
"""Of a model on the server; MLflow allows quotation marks too, but not in its own queries."""
_VERSION = re.compile(rf"models:/({NAME.pattern})/([1-9][0-9]{{0,8}})")
_ALIAS = re.compile(rf"models:/({NAME.pattern})@([\w-]+)")
_RUN = re.compile(r"runs:/([A-Za-z0-9][\w-]{0,255})(?:/(.+))?")


@dataclass(frozen=True, slots=True)
class Source:
    """Where something lies on an MLflow server, found."""

    uri: str
    """With the number of the version where there is one: `models:/digits/3` for an alias too."""
    artifacts: str
    """URI of the folder, or of the file, that holds it."""
    run_id: str | None
    version: int | None = None
    aliases: tuple[str, ...] = ()
    """That name this version on the server."""
    tags: Mapping[str, str] = field(default_factory=dict)


def find(server: Server, uri: str) -> Source:
    """Ask the server what a URI means. Raises RegistryError where it has no such model, version, alias or run."""
    from mlflow.exceptions import MlflowException

    try:
        if match := _VERSION.fullmatch(uri):
            return _of_version(server, server.client.get_model_version(*match.groups()))
        if match := _ALIAS.fullmatch(uri):
            return _of_version(server, server.client.get_model_version_by_alias(*match.groups()))
        if match := _RUN.fullmatch(uri):
            run = server.client.get_run(match[1])
            return Source(uri, f"runs:/{match[1]}/{match[2] or ''}", match[1], tags=run.data.tags)
    except MlflowException as error:
        raise _missing(server, uri, error) from None
    forms = "write models:/digits/3, models:/digits@champion or runs:/RUN_ID/path"
    raise RegistryError(repr(uri), "names nothing on an MLflow server", forms)


def _of_version(server: Server, found: ModelVersion) -> Source:
    number = int(found.version)
    # The alias lists of a version come from its model in some releases, and not with the version.
    aliases = server.client.get_registered_model(found.name).aliases
    return Source(
        uri=f"models:/{found.name}/{number}",
        artifacts=server.client.get_model_version_download_uri(found.name, str(number)),
        run_id=found.run_id or None,
        version=number,
        aliases=tuple(sorted(alias for alias, named in aliases.items() if int(named) == number)),
        tags=dict(found.tags),
    )


def _missing(server: Server, uri: str, error: MlflowException) -> Exception:
    """The error that says which part of the URI is not there; `error` itself where it is about something else."""
    if error.error_code not in (*ABSENT, "INVALID_PARAMETER_VALUE"):
        return error
    if uri.startswith("runs:"):
        return RegistryError(uri, f"{server.shown} has no such run", "copy the id of the run from MLflow's page of it")
    name = uri.removeprefix("models:/").partition("/")[0].partition("@")[0]
    known = sorted(model.name for model in server.client.search_registered_models(max_results=1000))
    if name not in known:
        some = ", ".join(known[:8]) or "none yet"
        return RegistryError(uri, f"{server.shown} has no model {name!r}", f"its models are: {some}")
    aliases = ", ".join(sorted(server.client.get_registered_model(name).aliases)) or "none"
    versions = server.client.search_model_versions(f"name='{name}'", max_results=1, order_by=["version_number DESC"])
    newest = f"its newest version is {versions[0].version}" if versions else "it has no version"
    what = "alias" if "@" in uri else "version"
    return RegistryError(uri, f"{server.shown} has no such {what} of {name!r}", f"{newest}, its aliases are: {aliases}")
