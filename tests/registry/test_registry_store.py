"""Where a registry keeps its packages: settled once, claimed first, and by nothing that fails."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from shipworthy.cli.app import app
from shipworthy.errors import RegistryError
from shipworthy.registry import Registry
from shipworthy.registry import store as module
from shipworthy.registry.blobs import Blobs
from shipworthy.registry.location import locate_registry
from shipworthy.registry.tables import settings


def kept(registry: Registry) -> dict[str, str]:
    with registry.database.read() as connection:
        rows = connection.execute(select(settings.c.key, settings.c.value))
        return {row.key: row.value for row in rows if row.key in ("id", "artifacts")}


def push(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["push", *map(str, arguments)])
    return result.exit_code, result.output if result.exception is None else str(result.exception)


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def killed(*_: object) -> None:
    raise Killed


def test_no_place_is_remembered_before_it_is_claimed(tmp_path: Path, package, monkeypatch) -> None:
    place = str(tmp_path / "place")
    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "claim", killed)
        with pytest.raises(Killed):
            Registry(tmp_path / "one", artifacts=place)
    with Registry(tmp_path / "other", artifacts=place) as other, Registry(tmp_path / "one") as one:
        assert one.blobs.url == str(tmp_path / "one" / "blobs")
        one.register(package(), aliases=["champion"])
        other.gc(older_than=timedelta(0))
        assert one.pull("digits").is_file()


def test_a_process_that_ends_after_its_claim_can_go_on(tmp_path: Path, monkeypatch) -> None:
    remember = module._remember

    def until_the_place(connection, key: str, value: str) -> dict[str, str]:
        return remember(connection, key, value) if key == "id" else killed()

    for artifacts in (None, str(tmp_path / "place")):
        url = tmp_path / f"registry-{artifacts is None}"
        with monkeypatch.context() as patch:
            patch.setattr(module, "_remember", until_the_place)
            with pytest.raises(Killed):
                Registry(url, artifacts=artifacts)
        with Registry(url, artifacts=artifacts) as again:
            assert again.blobs.owner() == kept(again)["id"]
            assert len(kept(again)) == 2


def test_every_push_claims(tmp_path: Path, package, monkeypatch) -> None:
    """A place that lost its claim, or that another took at the same moment."""
    with Registry(tmp_path / "one") as one:
        sign = Path(one.blobs.url) / "registry-id"
        sign.unlink()
        one.register(package())
        assert sign.read_text().strip() == kept(one)["id"]
        one.register(package())
        assert one.blobs.is_claimed
        monkeypatch.setattr(Blobs, "owner", killed)
        one.register(package())
    monkeypatch.undo()
    sign.write_text("other")
    with Registry(tmp_path / "one") as one, pytest.raises(RegistryError, match="the packages of another registry"):
        one.register(package())


def test_only_who_may_make_a_registry_settles_it(tmp_path: Path, monkeypatch) -> None:
    url = tmp_path / "registry"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_settle", killed)
        with pytest.raises(Killed):
            Registry(url)
    with pytest.raises(RegistryError, match=r"is no registry yet; .* or begin this one: shipworthy push PACKAGE"):
        Registry(url, create=False)
    assert not (url / "blobs").exists()
    with Registry(url, artifacts=str(tmp_path / "place")) as registry:
        assert kept(registry)["artifacts"] == str(tmp_path / "place")


@pytest.mark.parametrize(
    "wrong",
    [("--alias", "No Alias"), ("--tag", "none"), ("--why", "x" * 100_000), ()],
    ids=["alias", "tag", "why", "package"],
)
def test_a_first_push_that_fails_leaves_nothing(tmp_path: Path, package, wrong: tuple[str, ...]) -> None:
    folder = package()
    if not wrong:
        (folder / "card.md").write_text("tampered")
    there = ("--registry", tmp_path / "registry", "--artifacts", tmp_path / "typo")
    assert push(folder, *wrong, *there)[0] != 0
    assert not (tmp_path / "registry").exists() and not (tmp_path / "typo").exists()
    assert push(package(), *there[:2], "--artifacts", tmp_path / "place")[0] == 0
    with Registry(tmp_path / "registry") as registry:
        assert registry.blobs.url == str(tmp_path / "place")


@pytest.mark.parametrize(
    "address",
    [
        "s3://key:hunter2@bucket/x",
        "s3://hunter2@bucket",
        "memory://user:hunter2@host/x",
        "s3://key:hun/ter2@bucket/x",
        "abfs://ships:hunter2@fleet.dfs.core.windows.net/x",
        "abfs://Hunter2==@fleet.dfs.core.windows.net/x",
        "abfss://hunter2@fleet.dfs.core.windows.net.evil.example/x",
        "abfs://hunter2@ships@fleet.dfs.core.windows.net",
        "s3://hunter2@fleet.dfs.core.windows.net/x",
        "abfs://ships@fleet.dfs.core.windows.net/x?sv=1&sig=hunter2",
        "az://ships/x?sig=hunter2",
    ],
)
def test_a_secret_is_not_remembered(tmp_path: Path, address: str) -> None:
    with pytest.raises(RegistryError, match=r"has (an @|a \?) in its address") as refused:
        Registry(tmp_path / "registry", artifacts=address)
    assert "ter2" not in str(refused.value)
    assert all(b"ter2" not in file.read_bytes() for file in (tmp_path / "registry").iterdir())
    with Registry(tmp_path / "registry") as registry:
        assert kept(registry)["artifacts"] == ""


@pytest.mark.parametrize(
    "address",
    [
        "abfs://ships@fleet.dfs.core.windows.net/packages",
        "ABFSS://ships-2@fleet2.blob.core.windows.net",
        "az://$web@fleet.dfs.core.chinacloudapi.cn/team@home",
    ],
)
def test_a_container_on_azure_is_no_secret(address: str) -> None:
    location = locate_registry(None)
    assert module._normal(address, location) == address


def test_an_at_sign_within_a_name_is_none(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="Protocol not known: nothing"):
        Registry(tmp_path / "registry", artifacts="nothing://bucket/team@home")


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ("memory://packages", "is gone when this process ends, and a registry is not"),
        ("MEMORY://packages", "is gone when this process ends"),
        ("~nosuchuser/packages", "give the whole path of the folder"),
        ("x" * 5000, "File name too long"),
        ("/".join(["x" * 200] * 40), "File name too long"),
        ("nul\0nul", "null byte"),
    ],
)
def test_places_that_cannot_be(tmp_path: Path, place: str, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegistryError, match=match):
        Registry(tmp_path / "registry", artifacts=place)
    with Registry(tmp_path / "registry") as registry:
        assert kept(registry)["artifacts"] == "", "it was not remembered"
