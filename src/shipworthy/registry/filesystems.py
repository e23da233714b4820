"""Folders and buckets as file systems, by the urls that fsspec knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import MissingExtra, ShipworthyError

FORMS = "give a folder or s3://bucket/prefix"
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3")}


def is_place(url: str) -> bool:
    """Whether files may be kept there: not where they can only be read, nor behind a chain of protocols."""
    read_only = url.startswith(("http://", "https://", "file://", "local://"))
    return bool(url) and not read_only and not ("://" in url and "::" in url)


def open_place(url: str, what: str, refusal: type[ShipworthyError]) -> tuple[Any, str]:
    """A file system and the path in it. Raises MissingExtra, which calls the url `what` it is, and `refusal` for any
    other reason."""
    protocol = url.partition("://")[0]
    if protocol == url:
        from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

        files = LocalFileSystem()
        return files, str(files._strip_protocol(url))  # as it writes the paths that it lists
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    try:
        # A listing that is remembered would hide what others have written or removed.
        files, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        if protocol in _EXTRAS:
            module, extra = _EXTRAS[protocol]
            raise MissingExtra(f"{what} {url}", module, extra) from None
        raise refusal(url, str(error), "install what it names") from None
    except ValueError as error:
        raise refusal(url, str(error), FORMS) from None
    return files, str(root).rstrip("/")


@contextmanager
def told(where: str, refusal: type[ShipworthyError]) -> Iterator[None]:
    """What any store raises as `refusal`: each kind raises what its own client library raises."""
    try:
        yield
    except ShipworthyError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise refusal(where, reason, "check the address, the credentials and the permissions") from error
