"""Stores that clients of MLflow reach by themselves, secrets in addresses, and what only one side can have."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow_cases import make_registry, make_ship, mlflow_server
from sqlalchemy import event
from typer.testing import CliRunner

from shipworthy.cli.app import app
from shipworthy.errors import RegistryError, TamperedPackage
from shipworthy.registry import Registry
from shipworthy.registry.mlflow_models import connection, incoming, pull, push
from shipworthy.registry.mlflow_models.connection import Server, transferring
from shipworthy.registry.mlflow_models.outgoing import _ALIAS
from shipworthy.registry.mlflow_models.source import Source

mlflow = pytest.importorskip("mlflow")

URIS = [
    ("http://user:p@ss@host", "http://host"),
    ("http://user:p@ss@w@rd@host:5000/prefix", "http://host:5000/prefix"),
    ("https://token@host", "https://host"),
]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with make_registry(tmp_path / "here") as opened:
        yield opened


@pytest.fixture
def lying_there(tmp_path: Path, monkeypatch) -> Source:
    """A package in a folder, which an MLflow server that is not needed here has found."""
    folder = tmp_path / "artefacts"
    folder.mkdir()
    make_ship(folder)

    @contextmanager
    def reach(uri: str) -> Iterator[Server]:
        connection._checked(uri)
        yield Server(uri, None)

    found = Source("models:/digits/1", folder.as_uri(), "0" * 32, version=1)
    monkeypatch.setattr(incoming, "reach", reach)
    monkeypatch.setattr(incoming, "find", lambda server, uri: found)
    return found


@pytest.mark.parametrize(("uri", "shown"), URIS)
def test_no_part_of_a_password_is_shown_or_kept(uri, shown, registry, lying_there) -> None:
    assert connection.without_secret(f"see {uri}, and 'x'") == f"see {shown}, and 'x'"
    version = pull(registry, "models:/digits/1", source=uri).version
    assert version.tags["mlflow.server"] == shown
    assert version.why == f"pulled from models:/digits/1 of {shown}"
    assert [known.why for known in registry.history("digits")] == [version.why]


@pytest.mark.parametrize(
    "uri", ["user:se@cret@host:1", "http://user:sec/ret@host", "http://user:1/secret@host", "http://secret://a@host:x"]
)
def test_an_address_that_is_refused_shows_no_password_either(uri) -> None:
    with pytest.raises(
        RegistryError, match=r"host.*is no address of an MLflow server.*in a password, / is %2F"
    ) as caught:
        connection._checked(uri)
    assert "sec" not in str(caught.value)


def test_what_signs_an_address_is_no_part_of_an_error() -> None:
    text = (
        "403 for url: https://s3/bucket/a.ship?X-Amz-Signature=secret&X-Amz-Date=1, and /bucket/b?sig=secret (retried)"
    )
    assert connection.without_secret(text) == "403 for url: https://s3/bucket/a.ship and /bucket/b (retried)"


class StoreError(Exception):
    """What a cloud's own library may raise."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/data"), "Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ModuleNotFoundError("No module named 'boto3'", name="boto3"), "No module named 'boto3'; install boto3"),
        (StoreError("no access for ftp://ann:p@ss@files"), "no access for ftp://files"),
        (StoreError(), "StoreError"),
        (mlflow.exceptions.MlflowException("failed"), "failed"),
    ],
)
def test_whatever_a_store_raises_names_the_store_and_a_remedy(error, said) -> None:
    with pytest.raises(RegistryError) as caught, transferring("ftp://ann:p@ss@files/1/artifacts"):
        raise error
    assert caught.value.culprit == "ftp://files/1/artifacts"
    assert said in str(caught.value)
    assert "read and written by this machine, and not by the server" in str(caught.value)
    assert "mlflow server --serve-artifacts" in caught.value.remedy
    with pytest.raises(RegistryError) as caught, transferring("mlflow-artifacts:/1/artifacts"):
        raise StoreError("broken pipe")
    assert "see whether the server still runs" in caught.value.remedy
    assert caught.value.culprit == "mlflow-artifacts:/1/artifacts"


def test_what_is_no_fault_of_the_store_stays_what_it_is() -> None:
    with pytest.raises(TamperedPackage), transferring("file:///data"):
        raise TamperedPackage("a", "b", "c")
    with pytest.raises(KeyboardInterrupt), transferring("file:///data"):
        raise KeyboardInterrupt


def test_a_store_that_cannot_be_read_is_named(registry, lying_there, monkeypatch) -> None:
    def denied(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    store = mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository
    for verb in ("list_artifacts", "download_artifacts", "__init__"):
        with monkeypatch.context() as patch, pytest.raises(RegistryError, match="Permission denied") as caught:
            patch.setattr(store, verb, denied)
            pull(registry, "models:/digits/1", source="http://host")
        assert caught.value.culprit == lying_there.artifacts, verb
    assert registry.models() == []


@pytest.mark.parametrize("alias", ["latest", "Latest", "v2", "V10", "v2.0", "a.b"])
def test_aliases_that_mlflow_refuses_are_known(alias) -> None:
    from mlflow.utils.validation import _validate_model_alias_name, _validate_model_alias_name_reserved

    assert not _ALIAS.fullmatch(alias)
    with pytest.raises(mlflow.exceptions.MlflowException):
        _validate_model_alias_name(alias)
        _validate_model_alias_name_reserved(alias)


@pytest.mark.parametrize("alias", ["champion", "latest-1", "latest2", "v2a", "version2", "v", "v_2"])
def test_aliases_that_mlflow_takes_are_known(alias) -> None:
    from mlflow.utils.validation import _validate_model_alias_name, _validate_model_alias_name_reserved

    _validate_model_alias_name(alias)
    _validate_model_alias_name_reserved(alias)
    assert _ALIAS.fullmatch(alias)


def test_a_pull_does_not_go_through_the_versions(registry, lying_there, tmp_path, monkeypatch) -> None:
    registry.register(make_ship(tmp_path, why="another"))
    first = pull(registry, "models:/digits/1", source="http://host").version
    monkeypatch.setattr(Registry, "list_versions", None)
    monkeypatch.setattr(Registry, "models", None)
    again = pull(registry, "models:/digits/1", source="http://host")
    assert (first.number, again.created, again.version.number) == (2, False, 2)


def test_a_version_is_found_by_the_index_of_digests(registry, tmp_path) -> None:
    digest = registry.register(make_ship(tmp_path)).digest
    newer = registry.register(tmp_path / "digits.ship", aliases=["champion"])
    registry.delete(registry.register(tmp_path / "digits.ship").name)
    asked: list[tuple[str, object]] = []
    with registry.database.read() as held:
        engine = held.engine
    event.listen(engine, "before_cursor_execute", lambda *sent: asked.append(sent[2:4]))
    assert registry.with_digest("digits", digest) == newer
    assert registry.with_digest("digits", "0" * 64) is None
    assert registry.with_digest("others", digest) is None
    statement, values = next(sent for sent in asked if "digest = " in sent[0])
    with registry.database.read() as held:
        plan = held.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    assert "USING INDEX versions_digest" in str(plan)


@pytest.mark.parametrize("uri", ["gibberish", "models:/digits/1"])
def test_a_pull_that_finds_nothing_makes_no_registry(uri, tmp_path) -> None:
    command = ["mlflow", "pull", uri, "--from", "http://127.0.0.1:9", "--registry", str(tmp_path / "new")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code != 0
    assert isinstance(result.exception, RegistryError)
    assert list(tmp_path.iterdir()) == []


def test_a_pull_that_finds_something_makes_the_registry(lying_there, tmp_path) -> None:
    command = ["mlflow", "pull", "models:/digits/1", "--from", "http://host", "--registry", str(tmp_path / "new")]
    result = CliRunner().invoke(app, command)
    assert result.stdout == "models:/digits/1 is now digits:1\n", result.exception
    with Registry(tmp_path / "new", create=False) as made:
        assert made.version("digits:1").name == "digits:1"


def test_a_package_of_no_known_commit_has_none(registry, lying_there, monkeypatch) -> None:
    monkeypatch.setattr("shipworthy.registry.registry.commit_here", lambda: "c0ffee")
    pulled = pull(registry, "models:/digits/1", source="http://host").version
    assert pulled.git_commit is None
    assert registry.version(pulled.name).git_commit is None


@pytest.fixture(scope="module")
def unserved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that leaves artefacts to its clients."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SERVE_ARTIFACTS", "false")
        patch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", (folder / "root").as_uri())
        with mlflow_server(folder) as uri:
            yield uri


@pytest.mark.full
def test_a_server_that_leaves_artefacts_to_its_clients(unserved, registry, tmp_path, monkeypatch) -> None:
    client = mlflow.MlflowClient(tracking_uri=unserved, registry_uri=unserved)
    registry.register(make_ship(tmp_path), aliases=["champion"])

    (tmp_path / "file").touch()
    client.create_experiment("not a folder", (tmp_path / "file").as_uri() + "/sub")
    with pytest.raises(RegistryError, match=r"^file://.*Not a directory.*check the path, the credentials") as caught:
        push(registry, "digits", to=unserved, experiment="not a folder")
    assert caught.value.culprit.startswith((tmp_path / "file").as_uri())

    client.create_experiment("cloud", "s3://bucket/place")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(RegistryError, match=r"s3://bucket/place/.*not installed.*boto3.*; install boto3, or let"):
        push(registry, "digits", to=unserved, experiment="cloud")
    assert client.search_model_versions("name='digits'") == []

    pushed = push(registry, "digits", to=unserved)
    assert client.get_run(pushed.run_id).info.artifact_uri.startswith("file://")
    with make_registry(tmp_path / "there") as there:
        assert pull(there, pushed.uri, source=unserved).version.digest == registry.version("digits").digest


@pytest.mark.full
def test_aliases_that_mlflow_cannot_have_are_left_out_and_named(unserved, registry, tmp_path) -> None:
    client = mlflow.MlflowClient(tracking_uri=unserved, registry_uri=unserved)
    registry.register(make_ship(tmp_path, "named"), aliases=["champion", "latest", "v2", "eu.west"])
    command = ["mlflow", "push", "named", "--to", unserved, "--registry", str(tmp_path / "here")]
    result = CliRunner().invoke(app, command)
    assert result.stdout == "named:1 is now models:/named/1; now named by champion\n", result.exception
    assert result.stderr == "left out, because MLflow cannot have such an alias: eu.west and latest and v2\n"
    assert dict(client.get_registered_model("named").aliases) == {"champion": "1"}
    again = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(again.stdout)["skipped"] == ["eu.west", "latest", "v2"]
    without = push(registry, "named", to=unserved, aliases=False)
    assert (without.created, without.aliases, without.skipped) == (False, (), ())


@pytest.mark.full
def test_a_name_that_is_none_makes_no_registry(unserved, tmp_path) -> None:
    command = ["mlflow", "pull", "gibberish", "--from", unserved, "--registry", str(tmp_path / "new")]
    result = CliRunner().invoke(app, command)
    assert "names nothing on an MLflow server" in str(result.exception)
    assert not (tmp_path / "new").exists()
