"""One place has one registry, also where a store answers badly or a process ends at the worst moment."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from shipworthy.errors import RegistryError
from shipworthy.registry import Registry
from shipworthy.registry import blobs as module
from shipworthy.registry.blobs import Blobs

Answer = Callable[[str], None]


class Answered(Exception):
    """A store's own error, which s3fs hands on as the cause of another."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.response = {"Error": {"Code": "Another"}, "ResponseMetadata": {"HTTPStatusCode": status}}


def caused(status: int) -> OSError:
    error = OSError(errno.EIO, f"HTTP {status}")
    error.__cause__ = Answered(status)
    return error


UNKNOWN = {
    "a store that does not implement it": NotImplementedError("A header you provided is not implemented."),
    "a client without the word": TypeError("got an unexpected keyword argument 'mode'"),
    "s3fs, of the code NotImplemented": OSError(errno.ENOSYS, "A header you provided is not implemented."),
    "s3fs, of a code that it does not know": caused(501),
}
REFUSED = {
    "409 ConditionalRequestConflict": caused(409),
    "412, without the condition": OSError(errno.EINVAL, "At least one of the preconditions did not hold"),
    "no answer in time": TimeoutError("Read timeout on endpoint URL"),
    "403": PermissionError("Access Denied"),
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Blobs:
    """In memory, of one instance for all: what it answers is one method."""
    return Blobs(f"memory://{uuid4().hex}")


def answer(bucket: Blobs, monkeypatch: pytest.MonkeyPatch, conditional: Answer) -> list[str]:
    """Let the store answer so to conditional writing; gives what is written unconditionally."""
    kind = type(bucket._files)
    pipe, written = kind.pipe_file, []

    def pipe_file(self: object, path: str, value: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            conditional(path)
        else:
            written.append(value.decode().strip())
            pipe(self, path, value)

    monkeypatch.setattr(kind, "pipe_file", pipe_file)
    return written


def raising(error: Exception) -> Answer:
    def conditional(path: str) -> None:
        raise error

    return conditional


@pytest.mark.parametrize("error", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_a_bucket_without_conditions(bucket: Blobs, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The later claim shows who has it."""
    assert answer(bucket, monkeypatch, raising(error)) == []
    bucket.claim("one")
    assert bucket.owner() == "one" and not bucket.is_claimed, "another may have written at the same moment"
    bucket.claim("one")
    assert bucket.is_claimed


@pytest.mark.parametrize("error", REFUSED.values(), ids=REFUSED.keys())
def test_an_error_is_no_leave_to_write(bucket: Blobs, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    written = answer(bucket, monkeypatch, raising(error))
    with pytest.raises(RegistryError, match=str(error.args[-1])):
        bucket.claim("one")
    assert written == [] and bucket.owner() is None


@pytest.mark.parametrize("error", [*REFUSED.values(), *UNKNOWN.values()], ids=[*REFUSED.keys(), *UNKNOWN.keys()])
def test_who_was_first_keeps_it(bucket: Blobs, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Another registry writes between the look and the write, and the write is answered by an error."""
    place = bucket._place()

    def conditional(path: str) -> None:
        bucket._files.pipe_file(f"{place}/registry-id", b"first\n")
        raise error

    written = answer(bucket, monkeypatch, conditional)
    with pytest.raises(RegistryError, match="keeps the packages of another registry"):
        bucket.claim("second")
    assert written == ["first"] and bucket.owner() == "first"


def test_an_answer_that_is_lost(bucket: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    place = bucket._place()

    def conditional(path: str) -> None:
        bucket._files.pipe_file(f"{place}/registry-id", b"one\n")
        raise TimeoutError("Read timeout on endpoint URL")

    answer(bucket, monkeypatch, conditional)
    bucket.claim("one")
    assert bucket.owner() == "one"


def test_a_claim_is_looked_at_again(tmp_path: Path, package, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lasted for the life of a process would not see who has written over it."""
    with Registry(tmp_path / "one") as one:
        one.register(package())
        assert one.blobs.is_claimed
        (Path(one.blobs.url) / "registry-id").write_text("other")
        assert one.register(package()).number == 2, "it was looked at a moment ago"
        monkeypatch.setattr(module, "CLAIM_S", 0.0)
        assert not one.blobs.is_claimed
        with pytest.raises(RegistryError, match="the packages of another registry"):
            one.register(package())


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def without_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_a_folder_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", without_links)
    folder = Blobs(str(tmp_path / "blobs"))
    folder.claim("one")
    assert folder.owner() == "one"
    with pytest.raises(RegistryError, match="the packages of another registry"):
        folder.claim("other")


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_process_that_ends_while_it_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Between the name and the content: the next one says what is so, and goes on when the first must have ended."""
    replace, sign = Path.replace, tmp_path / "registry" / "blobs" / "registry-id"

    def killed(self: Path, target: Path) -> Path:
        if Path(target) == sign:
            raise Killed
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", without_links)
        patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            Registry(tmp_path / "registry")
    assert sign.read_bytes() == b""
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    with pytest.raises(RegistryError, match=r"blobs/registry-id: is empty: .*; try again in a minute, and remove it"):
        Registry(tmp_path / "registry")
    assert sign.read_bytes() == b""
    before = time.time() - 70
    os.utime(sign, (before, before))
    with Registry(tmp_path / "registry") as again:
        assert sign.read_text().strip() == again.blobs.owner()
    assert list((sign.parent / "parts").iterdir()) == []


def test_an_empty_claim_in_a_bucket_is_named(bucket: Blobs) -> None:
    bucket._files.pipe_file(f"{bucket._place()}/registry-id", b"")
    with pytest.raises(RegistryError, match=r"registry-id: is empty: .* remove it if it stays so"):
        bucket.claim("one")
