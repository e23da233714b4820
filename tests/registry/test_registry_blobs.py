"""Blobs in a folder, in memory and in a bucket of a local S3 server."""

from __future__ import annotations

import builtins
import hashlib
import importlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from shipworthy.errors import MissingExtra, RegistryError, TamperedPackage
from shipworthy.registry import Registry
from shipworthy.registry import blobs as module
from shipworthy.registry.blobs import CHUNK, Blobs


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server on this host."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    import botocore.session

    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"models-{uuid4().hex[:8]}"
    botocore.session.get_session().create_client("s3", endpoint_url=s3).create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["folder", "memory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "folder":
        return Blobs(str(tmp_path / "blobs"))
    if request.param == "memory":
        return Blobs(f"memory://{uuid4().hex}/packages")
    return Blobs(f"s3://{request.getfixturevalue('bucket')}/packages")


def written(folder: Path, content: bytes) -> tuple[str, int, Path]:
    file = folder / uuid4().hex
    file.write_bytes(content)
    return hashlib.sha256(content).hexdigest(), len(content), file


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(CHUNK + 17)], ids=["empty", "small", "chunks"])
def test_what_is_put_is_read_again(blobs: Blobs, tmp_path: Path, content: bytes) -> None:
    sha256, size, file = written(tmp_path, content)
    assert not blobs.has(sha256, size)
    assert blobs.put(sha256, size, file) is True
    assert blobs.has(sha256, size) and not blobs.has(sha256, size + 1)
    assert blobs.put(sha256, size, file) is False, "once is enough"
    assert b"".join(blobs.chunks(sha256, size)) == content
    (stored,) = blobs.listing()
    assert (stored.sha256, stored.size) == (sha256, size)
    assert stored.modified is not None and abs(datetime.now(UTC) - stored.modified) < timedelta(minutes=1)
    blobs.remove([stored.path])
    blobs.remove([stored.path])
    assert not blobs.has(sha256, size) and list(blobs.listing()) == []


def test_a_source_that_changes_is_not_stored(blobs: Blobs, tmp_path: Path) -> None:
    sha256, size, file = written(tmp_path, b"before")
    file.write_bytes(b"behind")
    with pytest.raises(TamperedPackage, match="has changed while it was read"):
        blobs.put(sha256, size, file)
    assert not blobs.has(sha256, size) and list(blobs.listing()) == []


def test_what_was_changed_in_the_store_is_noticed(blobs: Blobs, tmp_path: Path) -> None:
    sha256, size, file = written(tmp_path, b"as it was")
    blobs.put(sha256, size, file)
    for content in (b"as it isn", b"as", b"as it was, and more"):
        blobs._files.pipe_file(blobs.path(sha256), content)
        with pytest.raises(TamperedPackage, match=sha256):
            list(blobs.chunks(sha256, size))
        if not (blobs.url.startswith("memory:") and len(content) == size):
            assert blobs.put(sha256, size, file) is True, "another content is seen, and replaced"
            assert b"".join(blobs.chunks(sha256, size)) == b"as it was"
            assert blobs.put(sha256, size, file) is False
    blobs._files.pipe_file(blobs.path(sha256), b"as")
    assert blobs.put(sha256, size, file) is True, "another size is seen, and stored again"
    assert b"".join(blobs.chunks(sha256, size)) == b"as it was"
    blobs.remove([blobs.path(sha256)])
    with pytest.raises(RegistryError, match="is missing; restore it from a backup"):
        list(blobs.chunks(sha256, size))


def test_one_store_has_one_registry(blobs: Blobs) -> None:
    blobs.try_writing()
    assert blobs.owner() is None
    blobs.claim("one")
    blobs.claim("one")
    assert blobs.owner() == "one"
    with pytest.raises(RegistryError, match="the packages of another registry"):
        blobs.claim("other")
    assert list(blobs.listing()) == []


def test_what_is_not_a_registrys_is_not_listed(blobs: Blobs, tmp_path: Path) -> None:
    sha256, size, file = written(tmp_path, b"mine")
    blobs.put(sha256, size, file)
    part = uuid4().hex
    place = blobs.path(sha256).removesuffix(f"/{sha256[:2]}/{sha256}")
    others = [
        f"inner/{sha256[:2]}/{sha256}",
        f"inner/parts/{part}",
        f"parts/{sha256[:2]}/{sha256}",
        f"parts/{part}.csv",
        f"parts/{part.upper()}X",
        f"parts/{part}{part}",
        f"parts/sub/{part}",
        f"{sha256[1:3]}x/{sha256}",
        f"{sha256[:2]}/{sha256}.bak",
        f"{sha256[:2]}/{sha256.upper()}x",
        f"{sha256[:2]}/{'g' * 64}",
        f"zz/{'z' * 64}",
        f"00/{'11' * 32}",
        sha256,
        part,
    ]
    for name in (*others, f"parts/{part}"):
        blobs._files.makedirs(f"{place}/{name}".rpartition("/")[0], exist_ok=True)
        blobs._files.pipe_file(f"{place}/{name}", b"")
    assert {(stored.sha256, stored.path) for stored in blobs.listing()} == {
        (sha256, blobs.path(sha256)),
        ("", f"{place}/parts/{part}"),
    }


def test_a_registry_within_anothers_place(tmp_path: Path, package) -> None:
    place = tmp_path / "ships"
    (place / "parts").mkdir(parents=True)
    own = place / "parts" / "catalogue.csv"
    own.write_text("precious")
    os.utime(own, (1, 1))
    with (
        Registry(tmp_path / "outer", artifacts=str(place)) as outer,
        Registry(tmp_path / "inner", artifacts=str(place / "team")) as inner,
    ):
        inner.register(package(), aliases=["champion"])
        freed = outer.gc(older_than=timedelta(0))
        assert (freed.blobs, freed.size) == ((), 0)
        assert own.read_text() == "precious"
        assert inner.pull("digits").is_file()


def test_many_claim_one_place(blobs: Blobs) -> None:
    """All of them have seen that nobody has it."""
    blobs.try_writing()
    together, told = threading.Barrier(6, timeout=20), {}

    def claim(name: str) -> None:
        mine = Blobs(blobs.url)
        owner = mine.owner

        def seen() -> str | None:
            mine.owner = owner  # type: ignore[method-assign]
            found = owner()
            together.wait()
            return found

        mine.owner = seen  # type: ignore[method-assign]
        try:
            mine.claim(name)
            told[name] = True
        except RegistryError as refusal:
            assert "the packages of another registry" in str(refusal)
            told[name] = False

    threads = [threading.Thread(target=claim, args=(f"registry {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [name for name, won in told.items() if won] == [blobs.owner()] and len(told) == 6
    assert list(blobs.listing()) == []


def test_a_bucket_that_does_not_answer(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    blobs = Blobs(f"s3://{bucket}/packages")
    sha256, size, file = written(tmp_path, b"content")
    blobs.put(sha256, size, file)
    ended = threading.Event()

    async def hang(path: str) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise

    monkeypatch.setattr(module, "REMOVAL_S", 0.1)
    monkeypatch.setattr(blobs._files, "_rm_file", hang)
    with pytest.raises(RegistryError, match=r"was not removed within 0\.1 s"):
        blobs.remove([blobs.path(sha256)])
    assert ended.wait(5), "what was asked for is not done later"
    assert blobs.has(sha256, size)


def test_several_are_removed_at_once(blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is gone is no error; one that is refused is, and the others are removed."""
    paths = []
    for number in range(6):
        sha256, size, file = written(tmp_path, bytes([number]))
        blobs.put(sha256, size, file)
        paths.append(blobs.path(sha256))
    gone, refused = paths[1], paths[4]
    blobs.remove([gone])
    assert blobs.removed_at_once == (32 if blobs.url.startswith("s3:") else 1)
    if blobs.removed_at_once > 1:
        remove, under_way, most = blobs._files._rm_file, [], []

        async def one(path: str) -> None:
            if path == refused:
                raise PermissionError("Access Denied")
            under_way.append(path)
            most.append(len(under_way))
            await remove(path)
            under_way.remove(path)

        monkeypatch.setattr(blobs._files, "_rm_file", one)
        with pytest.raises(RegistryError, match="Access Denied"):
            blobs.remove(paths)
        assert max(most) > 1, "they are removed at the same time"
        assert [stored.path for stored in blobs.listing()] == [refused]
        monkeypatch.undo()
    blobs.remove(paths)
    assert list(blobs.listing()) == []


def test_a_registry_in_a_folder_that_is_moved(tmp_path: Path, package) -> None:
    with Registry(tmp_path / "here") as registry:
        registry.register(package(), aliases=["champion"])
    shutil.move(tmp_path / "here", tmp_path / "there")
    with Registry(tmp_path / "there") as moved:
        assert moved.register(package()).name == "digits:2"
        assert moved.gc(older_than=timedelta(0)).blobs == ()


def test_many_threads_put_the_same(blobs: Blobs, tmp_path: Path) -> None:
    sha256, size, file = written(tmp_path, os.urandom(50_000))
    faults: list[BaseException] = []

    def put() -> None:
        try:
            blobs.put(sha256, size, file)
        except BaseException as fault:  # noqa: BLE001 - the test shows whatever it is
            faults.append(fault)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(b"".join(blobs.chunks(sha256, size))) == size
    assert len(list(blobs.listing())) == 1


def test_a_registry_elsewhere(bucket: str, tmp_path: Path, package) -> None:
    artifacts = f"s3://{bucket}/some/prefix/"
    folder = package()
    with Registry(tmp_path / "registry", artifacts=artifacts) as registry:
        registry.register(folder, aliases=["champion"])
        assert registry.blobs.url == artifacts.rstrip("/")
    assert not (tmp_path / "registry" / "blobs").exists()
    with Registry(tmp_path / "registry") as again:
        assert again.evidence("digits").name == "iris", "the place is remembered"
        pulled = again.pull("digits")
        assert pulled.name == f"{again.version('digits').digest}.ship"
        again.move("digits", "champion", None, expected=1)
        again.delete("digits:1")
        freed = again.gc(older_than=timedelta(0))
        assert len(freed.packages) == 1 and len(freed.blobs) == 8
        assert list(again.blobs.listing()) == []
    with pytest.raises(RegistryError, match="keeps its packages in"):
        Registry(tmp_path / "registry", artifacts="s3://other/prefix")
    with pytest.raises(RegistryError, match="the packages of another registry"):
        Registry(tmp_path / "other", artifacts=artifacts)


def test_a_bucket_that_is_not_there(bucket: str, package, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"s3://no-such-bucket/x: .*; check the address, the credentials"):
        Registry(tmp_path / "registry", artifacts="s3://no-such-bucket/x")
    with Registry(tmp_path / "registry", artifacts=f"s3://{bucket}/x") as registry:
        assert registry.register(package()).name == "digits:1", "what could not be used was not remembered"


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ("", "artifacts: is empty"),
        ("https://example.org/models", "is no place for packages"),
        ("simplecache::s3://bucket", "is no place for packages"),
        ("s3://a::memory://b", "is no place for packages"),
        ("nothing://bucket", "Protocol not known: nothing"),
    ],
)
def test_places_that_are_none(tmp_path: Path, place: str, match: str) -> None:
    with pytest.raises(RegistryError, match=match):
        Registry(tmp_path / "registry", artifacts=place)


@pytest.mark.parametrize(
    ("place", "module", "kind", "match"),
    [
        ("s3://bucket/x", "s3fs", MissingExtra, r"needs the Python package 's3fs'.*shipworthy\[s3\]"),
        ("gs://bucket/x", "gcsfs", RegistryError, "gcsfs"),
    ],
)
def test_a_client_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, module: str, kind: type[Exception], match: str
) -> None:
    known = importlib.import_module("fsspec.registry")._registry
    real = builtins.__import__

    def absent(name: str, *rest: object) -> object:
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    for loaded in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.delitem(known, place.partition(":")[0], raising=False)
    with pytest.raises(kind, match=match):
        Registry(tmp_path / "registry", artifacts=place)
