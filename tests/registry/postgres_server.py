"""PostgreSQL as the distribution ships it, started for a test or a benchmark in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

USER = "shipworthy"


@dataclass(slots=True)
class Server:
    """A server that runs: on a port of loopback, and on a socket in its folder."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new_database(self) -> str:
        """The url of an empty database."""
        name = f"registry{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def over_socket(self, url: str) -> str:
        """The same database by the server's Unix socket."""
        name = url.rpartition("/")[2]
        return f"postgresql://{USER}@/{name}?unix_sock={self.folder}/.s.PGSQL.{self.port}"

    def execute(self, statement: str) -> list[Any]:
        import pg8000.dbapi

        connection = pg8000.dbapi.connect(USER, host="127.0.0.1", port=self.port, database="postgres")
        connection.autocommit = True
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()


def missing() -> str | None:
    """Why no server can be started here, or None."""
    if _binary("initdb") is None:
        return "PostgreSQL is not installed here: apt-get install postgresql"
    if os.getuid() == 0 and not _has_user("postgres"):
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


@contextmanager
def running(**settings: str) -> Iterator[Server]:
    """Start a server with these settings, and stop it again."""
    owner = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="shipworthy-pg-"))
    data = folder / "data"
    try:
        if owner is not None:
            shutil.chown(folder, owner)
        as_owner: dict[str, Any] = {"user": owner, "group": owner, "extra_groups": []} if owner else {}
        command = [_binary("initdb"), "-D", data, "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **as_owner)
        port = _free_port()
        given = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, **settings}
        options = [part for key, value in given.items() for part in ("-c", f"{key}={value}")]
        with (folder.parent / f"{folder.name}.log").open("wb") as log:
            server = [_binary("postgres"), "-D", data, *options]
            process = subprocess.Popen(server, stdout=log, stderr=log, cwd=folder, **as_owner)
        try:
            found = Server(folder, port, process)
            _wait_for(found)
            yield found
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: what it has written is thrown away
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        (folder.parent / f"{folder.name}.log").unlink(missing_ok=True)


def _binary(name: str) -> str | None:
    """Debian keeps the server's programs out of the path."""
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return shutil.which(name) or (str(newest[-1]) if newest else None)


def _has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(server: Server) -> None:
    import pg8000.exceptions

    until = time.monotonic() + 60
    while True:
        try:
            server.execute("SELECT 1")
            return
        except (pg8000.exceptions.InterfaceError, pg8000.exceptions.DatabaseError):
            if server.process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.05)
