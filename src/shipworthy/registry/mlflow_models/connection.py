"""An MLflow server: reached within seconds or refused, and its errors as ours.

MLflow's client is told how patient to be by environment variables alone, and by default repeats for minutes what no
server answers; they are set while it is used, unless the user has set them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ...errors import MissingExtra, RegistryError, ShipworthyError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
PRESENT = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")

_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # What MLflow prints for those at a notebook, and what it reports to its makers, is not for a tool to switch on.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_FIRST_QUESTION = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Seconds that a server has for its first answer; later ones may wait for a large file to be stored."""

_SECRET = re.compile(r"(?<=://)[^/?#\s]*@")
"""Up to the last @ of the authority: a password may have one too."""
_SIGNATURE = re.compile(r"\?[\w.%-]+=[^\s'\"<>)]*")
"""The query of an address, which is what opens a file that is signed for a while."""
_THROUGH_SERVER = ("mlflow-artifacts", "http", "https")
_LONGEST = 300
"""Characters of what MLflow says: some servers answer with a page of HTML."""


@dataclass(frozen=True, slots=True)
class Server:
    """An MLflow server that has answered."""

    uri: str
    """With user and password, where the user gave them so."""
    client: MlflowClient

    @property
    def shown(self) -> str:
        """The address without secrets."""
        return without_secret(self.uri)

    def files(self, artifact_uri: str) -> Files:
        """The files below an artefact URI, through the server where it keeps them."""
        with transferring(artifact_uri):
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            return Files(get_artifact_repository(artifact_uri, tracking_uri=self.uri, registry_uri=self.uri))


class Files:
    """Artefacts below one place. Raises RegistryError where they cannot be had, whatever the store itself raises."""

    def __init__(self, repository: ArtifactRepository) -> None:
        # `runs:/` is an address of an address.
        self._place: str = getattr(repository, "repo", repository).artifact_uri
        self._list: Callable[[str], list[FileInfo]] = repository.list_artifacts
        self._download: Callable[[str, str], str] = repository.download_artifacts

    def list(self, most: int) -> list[str]:
        """Paths of the files, those near the root first; it ends soon after `most`."""
        found: list[str] = []
        folders = [""]
        while folders and len(found) < most:
            with transferring(self._place):
                listed = self._list(folders.pop(0))
            for info in listed:
                (folders if info.is_dir else found).append(info.path)
        return found

    def fetch(self, path: str, folder: Path) -> Path:
        """Where in `folder` the file is now."""
        with transferring(self._place):
            return Path(self._download(path, str(folder)))


@contextmanager
def transferring(place: str) -> Iterator[None]:
    """Translate what a store raises while files go to `place`, an artefact URI, or come from there.

    A server that does not serve artefacts leaves them to its clients: then this machine needs the store's own client,
    credentials and permissions. Raises RegistryError."""
    shown = without_secret(place)
    here = "read and written by this machine, and not by the server"
    let = "or let the server keep the artefacts of new experiments: mlflow server --serve-artifacts"
    try:
        yield
    except ShipworthyError:
        raise
    except ImportError as error:
        reason = f"it is {here}, and what that needs is not installed: {told(error)}"
        raise RegistryError(shown, reason, f"install {error.name or 'what it names'}, {let}") from None
    except Exception as error:  # noqa: BLE001 - each kind of store raises what its own client library raises
        reason = f"a file could not be transferred: {told(error)}"
        if urlsplit(place).scheme in _THROUGH_SERVER:
            remedy = "see whether the server still runs, and what its log says"
        else:
            remedy = f"it is {here}: check the path, the credentials and the permissions, {let}"
        raise RegistryError(shown, reason, remedy) from None


@contextmanager
def reach(uri: str) -> Iterator[Server]:
    """Ask the server at `uri` a first question, and translate whatever it refuses later into RegistryError.

    Raises MissingExtra without MLflow's client, RegistryError where the address is none, or no MLflow server answers
    there within seconds. What is done with files is translated by `transferring`."""
    shown = _checked(uri)
    with _settings(_PATIENCE):
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            raise MissingExtra("speaking with an MLflow server", error.name or "mlflow", "mlflow") from error
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        with _settings(_FIRST_QUESTION):
            try:
                client.search_registered_models(max_results=1)
            except MlflowException as error:
                raise _unreachable(shown, error) from None
        try:
            yield Server(uri, client)
        except MlflowException as error:
            raise RegistryError(shown, told(error), "see what the log of the MLflow server says") from None


def told(error: Exception) -> str:
    """What MLflow or a store says, on one line, without secrets."""
    text = without_secret(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."


def without_secret(text: str) -> str:
    """The text without users, passwords and signatures of the addresses in it."""
    return _SIGNATURE.sub("", _SECRET.sub("", text))


def _checked(uri: str) -> str:
    """The address as it may be shown. Raises RegistryError where it is no http(s) address.

    MLflow would take anything else as a folder, and make it."""
    try:
        parts = urlsplit(uri)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    before, at, rest = uri.rpartition("@")
    # Behind a / the @ ends no password for `urlsplit`, and may do so for the user.
    if not whole or "@" in parts.path + parts.query + parts.fragment:
        scheme, sign, _ = before.partition("://")
        shown = uri if not at else scheme + sign + rest if sign else rest
        remedy = "write the address of an MLflow server, such as http://127.0.0.1:5000, or set MLFLOW_TRACKING_URI"
        signs = "; in a password, / is %2F, ? is %3F and # is %23" if at else ""
        raise RegistryError(repr(shown), "is no address of an MLflow server", remedy + signs)
    return without_secret(uri)


def _unreachable(shown: str, error: MlflowException) -> RegistryError:
    import requests

    code = getattr(error, "error_code", "")
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"):
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return RegistryError(shown, f"does not let you in: {told(error)}", remedy)
    start = f"see whether one runs there: mlflow server --host {urlsplit(shown).hostname} --port PORT"
    cause = error.__cause__ or error.__context__
    # A connection that was tried several times fails as a whole, and only its text says that time ran out.
    if isinstance(cause, requests.Timeout) or "timed out" in str(cause):
        return RegistryError(shown, "did not answer in time", start)
    if isinstance(cause, requests.ConnectionError):
        return RegistryError(shown, "no server answers there", start)
    return RegistryError(shown, f"does not answer as an MLflow server: {told(error)}", start)


@contextmanager
def _settings(wanted: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while; what is set already stays, unless it was set here."""
    ours = {name: value for name, value in wanted.items() if os.environ.get(name) in (None, _PATIENCE.get(name))}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
