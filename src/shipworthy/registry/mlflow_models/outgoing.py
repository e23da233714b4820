"""A version of the registry as a version of an MLflow model."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import Conflict, RegistryError
from ...package import Package, read_package
from ...package.members import CARD, REPORT
from ..records import Version
from ..registry import Registry
from .connection import ABSENT, PRESENT, Server, reach, transferring
from .flavour import write_model
from .logged import metrics_of, params_of
from .source import DIGEST, GIT_COMMIT, NAME

if TYPE_CHECKING:
    from mlflow.entities import RunInfo
    from mlflow.entities.model_registry import ModelVersion

_RESERVED = ("mlflow.", "shipworthy.")
_NOT_IN_NAMES = re.compile(r"[^\w. -]")
_ALIAS = re.compile(r"(?!(?:latest|v\d+)\Z)[\w-]+", re.IGNORECASE)
"""That MLflow can have: `latest` and `v2` mean a version's number there."""
_MODEL = "model"
"""Folder of the run's artefacts that is the model."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push."""

    version: Version
    model: str
    """Name on the server."""
    number: int
    run_id: str
    created: bool
    """False where the server had a version of the same package."""
    aliases: tuple[str, ...]
    """Those that were set there; the others named it already."""
    skipped: tuple[str, ...] = ()
    """Those that name the version here, and that MLflow cannot have."""

    @property
    def uri(self) -> str:
        return f"models:/{self.model}/{self.number}"


def push(
    registry: Registry,
    name: str,
    *,
    to: str,
    model: str | None = None,
    experiment: str | None = None,
    aliases: bool = True,
) -> Pushed:
    """Register a version on the MLflow server at `to`, as the next version of `model` (by default the same name).

    A run in `experiment` (by default the model's name) has the contract and the choice as params, the evidence as
    metrics, and as artefacts the report, the card, and the package as a model that `mlflow.pyfunc` loads. A package
    that the server has already, known by the tag of its digest, gets no second version. `aliases`: those that name
    the version here will name it there too, but for `latest`, `v2` and what has a dot: MLflow cannot have these, and
    the result names them. Of two pushes at the same moment neither sees what the other makes.

    Raises RegistryError where the server or the version cannot be reached, Conflict where an alias there names a
    version that no registry of ours pushed."""
    version = registry.version(name)
    there = _named(model or version.model)
    wanted = version.aliases if aliases else ()
    possible = tuple(alias for alias in wanted if _ALIAS.fullmatch(alias))
    skipped = tuple(alias for alias in wanted if alias not in possible)
    with reach(to) as server:
        found = _found(server, there, version.digest)
        held = found or _create(server, registry, version, there, experiment or there)
        moved = _point(server, held, possible) if possible else ()
    return Pushed(version, there, int(held.version), held.run_id or "", found is None, moved, skipped)


def _named(model: str) -> str:
    if not NAME.fullmatch(model):
        raise RegistryError(repr(model), "is no name of an MLflow model", "leave out / : @ and quotation marks")
    return model


def _found(server: Server, model: str, digest: str) -> ModelVersion | None:
    """The oldest version of `model` there whose tag has this digest."""
    versions = server.client.search_model_versions(
        f"name='{model}' and tags.`{DIGEST}`='{digest}'", order_by=["version_number ASC"]
    )
    return next((version for version in versions if version.status == "READY"), None)


def _create(server: Server, registry: Registry, version: Version, model: str, experiment: str) -> ModelVersion:
    client = server.client
    experiment_id = _experiment(server, experiment)
    _ensure_model(server, model)
    # By its number: an alias may have been moved since it was asked.
    with read_package(registry.pull(version.name)) as package, tempfile.TemporaryDirectory() as folder:
        tags = dict(_tags(version))
        of_run = {**tags, "mlflow.source.git.commit": version.git_commit or "", "mlflow.user": version.who}
        run = client.create_run(
            experiment_id,
            tags={key: value for key, value in of_run.items() if value},
            run_name=version.name,
        )
        try:
            client.log_batch(run.info.run_id, metrics=metrics_of(package), params=params_of(package))
            _upload(server, run.info, package, Path(folder))
            made = client.create_model_version(
                model,
                f"{run.info.artifact_uri}/{_MODEL}",
                run.info.run_id,
                tags=tags,
                description=version.why or None,
                await_creation_for=0,
            )
        except BaseException:
            # Where the server is gone, this fails too; what is told is what went wrong first.
            with suppress(Exception):
                client.set_terminated(run.info.run_id, "FAILED")
            raise
        client.set_terminated(run.info.run_id)
    return made


def _upload(server: Server, run: RunInfo, package: Package, folder: Path) -> None:
    model = folder / _MODEL
    write_model(model, package, run_id=run.run_id)
    with transferring(run.artifact_uri):
        server.client.log_artifacts(run.run_id, str(model), _MODEL)
        for member in (REPORT, CARD):
            server.client.log_artifact(run.run_id, str(package.root / member))


def _tags(version: Version) -> Iterator[tuple[str, str]]:
    """The version's own tags, and ours. What begins with MLflow's name has a meaning there, and its names have only
    letters, digits and `._-`."""
    for key, value in version.tags.items():
        if not key.startswith(_RESERVED):
            yield _NOT_IN_NAMES.sub("_", key), value
    ours: Mapping[str, str | None] = {
        DIGEST: version.digest,
        "shipworthy.version": version.name,
        "shipworthy.contract": version.contract_digest,
        GIT_COMMIT: version.git_commit,
        "shipworthy.who": version.who,
        "shipworthy.why": version.why,
    }
    yield from ((key, value) for key, value in ours.items() if value)


def _ensure_model(server: Server, model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        server.client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code not in PRESENT:
            raise


def _experiment(server: Server, name: str) -> str:
    """Id of the experiment; somebody else may be making it now."""
    from mlflow.exceptions import MlflowException

    found = server.client.get_experiment_by_name(name)
    if found is None:
        try:
            return server.client.create_experiment(name)
        except MlflowException as error:
            found = server.client.get_experiment_by_name(name)
            if error.error_code not in PRESENT or found is None:
                raise
    if found.lifecycle_stage != "active":
        remedy = "restore it there, or name another with --experiment"
        raise RegistryError(f"the experiment {name!r}", f"is deleted on {server.shown}", remedy)
    return found.experiment_id


def _point(server: Server, held: ModelVersion, aliases: tuple[str, ...]) -> tuple[str, ...]:
    """Let aliases name a version there; gives those that did not. MLflow has no compare-and-swap: what is set between
    the look and the move is lost."""
    named = server.client.get_registered_model(held.name).aliases
    moves = [alias for alias in aliases if str(named.get(alias, "")) != str(held.version)]
    for alias in moves:
        if alias in named and not _is_ours(server, held.name, str(named[alias])):
            reason = f"names version {named[alias]} on {server.shown}, which no registry of Shipworthy pushed"
            remedy = f"move it there, or push with --no-aliases; the package is models:/{held.name}/{held.version}"
            raise Conflict(f"models:/{held.name}@{alias}", reason, remedy)
    for alias in moves:
        server.client.set_registered_model_alias(held.name, alias, str(held.version))
    return tuple(moves)


def _is_ours(server: Server, model: str, number: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return DIGEST in server.client.get_model_version(model, number).tags
    except MlflowException as error:
        if error.error_code in ABSENT:
            return True
        raise
