"""The registry: versions of packages, aliases, and the log of all that happened to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection

from ..errors import RegistryError
from ..evidence import BuildRecord
from ..package import Manifest, Package, read_package
from ..package.members import EVIDENCE, MANIFEST, REPORT
from . import log, moving, reading, versions
from .database import Database
from .freeing import free
from .location import locate_registry
from .migrating import bring_up_to_date, check_file_there
from .names import CHAMPION, Reference, check_alias, check_model, parse
from .origin import commit_here, who_am_i
from .pushing import facts_of, push
from .records import Event, Freed, Live, Model, Version
from .store import claim, open_store
from .words import check_details, check_limit, check_tags, check_text, one_line

T = TypeVar("T")

_LONGEST = timedelta(days=36_500)


class Registry:
    """One database of versions, and one store of their files. A context manager; may be used by any thread."""

    def __init__(
        self,
        url: str | Path | None = None,
        *,
        artifacts: str | None = None,
        who: str | None = None,
        create: bool = True,
    ) -> None:
        """Open a registry; one that is not there is made, unless `create` is False: then such a place is refused, and
        nothing is written there.

        `url`: a folder, `sqlite:///path.db` or `postgresql://user@host/database`; by default `$SHIPWORTHY_REGISTRY`,
        else `~/.shipworthy/registry`. `artifacts`: where a new registry keeps its packages: a folder or
        `s3://bucket/prefix`; by default beside the SQLite file. It is remembered. `who`: what changes are signed with;
        by default `$SHIPWORTHY_USER`, else user@host. Raises RegistryError or MissingExtra."""
        self.who = check_text("who", who if who is not None else who_am_i(), 200)
        location = locate_registry(url)
        self.url = location.given
        """Opens the same registry in another process; it may hold a password."""
        if not create:
            check_file_there(location)
        self.database = Database(location)
        try:
            bring_up_to_date(self.database, create=create)
            self.blobs = open_store(self.database, artifacts, create=create)
        except BaseException:
            self.database.close()
            raise

    def register(
        self,
        package: str | Path | Package,
        *,
        aliases: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        parent: int | None = None,
        why: str = "",
        git_commit: str | None = None,
        push_id: str | None = None,
    ) -> Version:
        """Audit a package, store its files, and give it the next number of its model, whole or not at all.

        A `Package` that is open has been audited, and stays open. Versions are only ever added: a package that is
        registered twice has two. Where the answer to one call is lost with the connection, the call itself finds out
        whether it was committed, and adds no second version. Where the calling process dies, a new call adds one,
        unless both were given the same `push_id`: a push of that name is carried out once, and its version is returned
        from then on. A process that dies half way leaves files that `gc` frees, and no version.

        `aliases` are moved to it in the same transaction. `git_commit` is by default HEAD of the working folder's
        repository; an empty one says that there is none. Raises PackageError where the package is not whole,
        RegistryError where it cannot be registered."""
        moved = [check_alias(alias) for alias in dict.fromkeys(aliases)]
        said = check_text("why", why)
        named = check_tags(tags)
        commit = commit_here() if git_commit is None else check_text("git_commit", git_commit, 80) or None
        push_named = None if push_id is None else f"push:{check_text('push_id', push_id, 120)}"
        with nullcontext(package) if isinstance(package, Package) else read_package(package) as opened:
            facts = facts_of(opened, git_commit=commit, parent=parent, tags=named, why=said)
            return push(self.database, self.blobs, facts, opened.root, aliases=moved, who=self.who, push_id=push_named)

    def version(self, name: str | Reference) -> Version:
        """The version that `digits`, `digits@champion` or `digits:3` names; also one that was deleted, by its number.

        Raises RegistryError where there is none."""
        reference = parse(name)
        return self.database.ask(lambda connection: versions.find(connection, reference))

    def list_versions(self, model: str, *, deleted: bool = False, limit: int | None = None) -> list[Version]:
        """Versions of a model, newest first; deleted ones only if asked for."""
        most = check_limit(limit)
        return self._ask(model, lambda connection: versions.listed(connection, model, deleted=deleted, limit=most))

    def counted(self, model: str) -> tuple[int, int]:
        """How many versions the model has, and how many of them are deleted."""
        return self._ask(model, lambda connection: versions.counted(connection, model))

    def ancestors(self, version: Version, *, limit: int) -> list[int]:
        """Numbers of what a version was made from, what that was made from, and so on."""
        return self.database.ask(lambda connection: versions.ancestors(connection, version, limit))

    def children(self, version: Version, *, limit: int) -> list[int]:
        """Numbers of what was made from a version directly, the newest first."""
        return self.database.ask(lambda connection: versions.children(connection, version, limit))

    def with_digest(self, model: str, digest: str) -> Version | None:
        """The newest version of a model that is this package and not deleted; None also for an unknown model."""
        check_model(model)
        return self.database.ask(lambda connection: versions.with_digest(connection, model, digest))

    def models(self) -> list[Model]:
        """Every model, sorted by name."""
        return self.database.ask(versions.all_models)

    def pull(self, name: str | Reference, to: str | Path | None = None) -> Path:
        """The version's `.ship` file, byte for byte, audited: in the local cache, or at `to`, a folder or file.

        Raises TamperedPackage where a stored file is not what it was, RegistryError where the version is deleted or
        the file cannot be written."""
        return reading.pull(self.database, self.blobs, self._present(name), None if to is None else Path(to))

    def evidence(self, name: str | Reference) -> BuildRecord:
        """All that was measured when the version was built."""
        return reading.parse_member(self.database, self.blobs, self._present(name), EVIDENCE, BuildRecord)

    def manifest(self, name: str | Reference) -> Manifest:
        """The manifest of the version's package: its contract, its variants, its files."""
        return reading.parse_member(self.database, self.blobs, self._present(name), MANIFEST, Manifest)

    def report(self, name: str | Reference) -> bytes:
        """The version's report.html."""
        return reading.read_member(self.database, self.blobs, self._present(name), REPORT)

    def delete(self, name: str | Reference, *, why: str = "") -> Event:
        """Mark a version as deleted: it stays in the history, and `gc` may free its package.

        Raises RegistryError where an alias or a running rollout names it, or where it was deleted before."""
        reference, said = parse(name), check_text("why", why)

        def work(connection: Connection, token: str) -> Event:
            version = versions.find(connection, reference)
            return versions.delete(connection, version, who=self.who, why=said, token=token)

        return self._write(work)

    def aliases(self, model: str) -> dict[str, int]:
        """What each alias of the model names, sorted."""
        return self._ask(model, lambda connection: versions.aliases_of(connection, model))

    def move(
        self,
        model: str,
        alias: str,
        to: int | None,
        *,
        expected: int | None,
        why: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Event:
        """Let an alias name version `to`, or nothing (None), if it names `expected` now (None: nothing).

        Raises Conflict where it names something else, RegistryError where `to` is no version or a deleted one. Where
        `to` is what it names already, nothing is written, and the event is the one that made it so."""
        check_model(model)
        check_alias(alias)
        said, told = check_text("why", why), check_details(details)

        def work(connection: Connection, token: str) -> Event:
            named = versions.aliases_of(connection, model).get(alias)
            moving.check_expected(model, alias, named, expected)
            return moving.move(
                connection, model, alias, to, previous=named, who=self.who, why=said, details=told, token=token
            )

        return self._write(work)

    def promote(self, name: str | Reference, *, alias: str = CHAMPION, why: str = "") -> Event:
        """Let the alias name this version, whatever it names now."""
        reference, said = parse(name), check_text("why", why)
        check_alias(alias)

        def work(connection: Connection, token: str) -> Event:
            named = versions.aliases_of(connection, reference.model)
            number = versions.number_of(connection, reference, named)
            previous = named.get(alias)
            return moving.move(
                connection, reference.model, alias, number, previous=previous, who=self.who, why=said, token=token
            )

        return self._write(work)

    def rollback(
        self, model: str, *, alias: str = CHAMPION, why: str = "", expected: int | EllipsisType | None = ...
    ) -> Event:
        """Let the alias name what it named before the present version was given to it; again goes one further back.

        With `expected`, only if it names that version now (None: nothing): of two who go back from the same version at
        the same time one gets Conflict, where else both would go one step. Raises RegistryError where it named nothing
        else before that is not deleted."""
        check_model(model)
        check_alias(alias)
        said = check_text("why", why)

        def work(connection: Connection, token: str) -> Event:
            named = versions.aliases_of(connection, model).get(alias)
            if expected is not ...:
                moving.check_expected(model, alias, named, expected)
            number, event = moving.before(connection, model, alias, named)
            back = {moving.ROLLBACK: event}
            return moving.move(
                connection, model, alias, number, previous=named, who=self.who, why=said, details=back, token=token,
                adds=False,
            )  # fmt: skip

        return self._write(work)

    def history(
        self, model: str | None = None, *, alias: str | None = None, limit: int | None = None
    ) -> list[Event]:  # fmt: skip
        """What happened to a model, or to all, newest first; with `alias` only its moves."""
        most = check_limit(limit)
        return self._ask(model, lambda connection: log.history(connection, model, alias, most))

    def events_of(self, version: Version, *, limit: int | None = None) -> list[Event]:
        """What happened to one version, also when aliases left it; newest first."""
        most = check_limit(limit)
        return self.database.ask(lambda c: log.of_version(c, version.model, version.number, most))

    def live(self, model: str, at: datetime | None = None, *, alias: str = CHAMPION) -> Live | None:
        """What the alias named at a time (now by default), since when, why and by whom; None where it named nothing.

        Read from the events alone. A time without a zone is refused with RegistryError."""
        check_alias(alias)
        if at is not None and at.tzinfo is None:
            raise _without_zone(at)
        return self._ask(model, lambda connection: log.live_at(connection, model, alias, at))

    def events_after(self, number: int) -> list[Event]:
        """Events with a higher number, in the order of their commits: none appears later with a lower one."""
        return self.database.ask(lambda connection: log.after(connection, number))

    def newest_event(self) -> int:
        """Number of the last event, 0 where there is none: one query, to be asked often."""
        return self.database.ask(log.newest)

    def note(
        self,
        model: str,
        kind: str,
        *,
        version: int | None = None,
        why: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Event:
        """Record what happened to a model elsewhere, such as `load-failed`. Raises RegistryError for an unknown model,
        and for the kinds that the registry itself writes."""
        said, told = check_text("why", one_line(why)), check_details(details)
        log.check_kind(kind)

        def work(connection: Connection, token: str) -> Event:
            versions.newest_number(connection, check_model(model))
            if version is not None:
                versions.find(connection, Reference(model, number=version))
            return log.append(
                connection, model, kind, who=self.who, version=version, why=said, details=told, token=token
            )  # fmt: skip

        return self._write(work)

    def mend_times(self, *, after: int, at: datetime) -> int:
        """Bring back what a wrong clock put into the future: events after that number, the last one that is right, get
        the time `at`, or what the right clock said when they were written; each keeps the time that it had in its
        details. Times of versions and rollouts follow. How many events there were.

        Raises RegistryError where `at` has no zone, is before the event of that number, or in the future."""
        if at.tzinfo is None:
            raise _without_zone(at)
        moment = at.astimezone(UTC)
        return self.database.transact(lambda connection: log.mend_times(connection, after, moment), repeatable=True)

    def gc(self, *, older_than: timedelta = timedelta(hours=1), dry_run: bool = False) -> Freed:
        """Free the packages of deleted versions, and files that no other package needs.

        Files that were stored within `older_than` are left, because a push may be on its way. With `dry_run` nothing
        is removed. Raises RegistryError where the store is another registry's."""
        if not timedelta(0) <= older_than <= _LONGEST:
            reason = f"is {older_than}"
            raise RegistryError("older_than", reason, f"give a time that is not negative, at most {_LONGEST.days} days")
        claim(self.database, self.blobs)
        return free(self.database, self.blobs, older_than=older_than, dry_run=dry_run)

    def close(self) -> None:
        """Close the connections that this process has."""
        self.database.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ask(self, model: str | None, work: Callable[[Connection], T]) -> T:
        """Ask in a transaction in which the model is known."""
        if model is None:
            return self.database.ask(work)
        check_model(model)

        def once(connection: Connection) -> T:
            versions.newest_number(connection, model)
            return work(connection)

        return self.database.ask(once)

    def _write(self, work: Callable[[Connection, str], Event]) -> Event:
        """Do `work`, which appends an event under the token that it is given, exactly once."""
        token, attempts = uuid4().hex, count()

        def once(connection: Connection) -> Event:
            earlier = log.by_token(connection, token) if next(attempts) else None
            return earlier or work(connection, token)

        return self.database.transact(once, repeatable=True)

    def _present(self, name: str | Reference) -> Version:
        version = self.version(name)
        if version.deleted is not None:
            raise RegistryError(version.name, f"was deleted on {version.deleted:%Y-%m-%d}", "choose another version")
        return version


def _without_zone(at: datetime) -> RegistryError:
    return RegistryError(f"{at:%Y-%m-%dT%H:%M:%S}", "has no time zone", "say which, such as UTC")
