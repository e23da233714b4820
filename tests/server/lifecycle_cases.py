"""Servers in processes of their own, versions of a package, and clients that ask without a pause."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from shipworthy.package import Manifest

BODY = json.dumps({"features": [5.1, 3.5, 1.4, 0.2]})
JSON = {"content-type": "application/json"}


def version_of(stored: Path, folder: Path, second: int, *, name: str | None = None) -> Path:
    """A copy of the stored package, in `folder`, that says it was made at another second, and so is another version."""
    shutil.copytree(stored.with_suffix(""), folder)
    file = folder / "manifest.json"
    text = file.read_text().replace("2026-01-02T03:04:05Z", f"2026-01-02T03:{second // 60:02}:{second % 60:02}Z")
    if name is not None:
        contract = Manifest.model_validate_json(text).contract
        text = text.replace('"name": "iris"', f'"name": "{name}"')
        text = text.replace(contract.digest, contract.model_copy(update={"name": name}).digest)
    file.write_text(text)
    (folder / "DIGEST").write_text(hashlib.sha256(file.read_bytes()).hexdigest() + "\n")
    return folder


def replace_package(place: Path, by: Path) -> None:
    """Put a package where another one is, as an operator would: whole, or not at all."""
    link = place.with_name(place.name + ".next")
    link.symlink_to(by)
    link.rename(place)


def spoil(package: Path) -> None:
    """Change one byte of a graph."""
    file = package / "variants" / "onnxruntime-fp32" / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


class Served:
    """`shipworthy serve` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str], url: str) -> None:
        self.process, self.lines, self.url = process, lines, url
        self.port = int(url.rsplit(":", 1)[1])

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self) -> list[int]:
        """Process ids of those that serve or will soon, the oldest first."""
        return sorted(pid for pid in self._children() if runs_worker(pid) and has_event_loop(pid))

    def spare(self) -> int | None:
        """The process that waits to be a worker, if there is one."""
        return next((pid for pid in self._children() if alive(pid) and not has_event_loop(pid)), None)

    def _children(self) -> list[int]:
        files = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for file in files for pid in file.read_text().split()]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(40)

    def ask(self) -> tuple[int, dict[str, object]]:
        """Status and answer of one prediction, over a connection of its own."""
        with connected(self.port) as connection:
            connection.request("POST", "/predict", BODY, JSON)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def versions(self, times: int = 24) -> set[object]:
        """The versions that answer, over so many connections, of which every worker has its share."""
        return {self.ask()[1].get("version") for _ in range(times)}


@contextmanager
def serving(*words: object, env: dict[str, str] | None = None) -> Iterator[Served]:
    """A server that is ready; it does not outlive the block. Its log is the file `log` of these words' folder."""
    command = [sys.executable, "-m", "shipworthy", "serve", *map(str, words), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith("ready: "):
                    break
            assert lines and lines[-1].startswith("ready: "), lines
            yield Served(process, lines, lines[-1].split()[1])
        finally:
            process.kill()


@contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


class Load:
    """Clients in threads, each of which asks, waits for the answer, and asks again. As a context manager it ends with
    its block."""

    def __init__(self, port: int, *, clients: int = 4, keep: bool = True) -> None:
        """With `keep`, a client keeps its connection for as long as the server does; else it takes one for each."""
        self._port, self._keep = port, keep
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(clients)]
        self.outcomes: Counter[object] = Counter()
        """How often: a status; `refused`, where there was no connection; `lost: …`, where a request had no answer."""
        self.times: list[tuple[float, object]] = []
        """When each of them was, by time.monotonic()."""

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def lost(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if str(outcome).startswith("lost"))

    def _ask_on(self) -> None:
        connection = self._fresh()
        while not self._stopped.is_set():
            if connection.sock is None:
                try:
                    connection.connect()
                except OSError:
                    self._note("refused")
                    time.sleep(0.01)
                    continue
            self._note(self._ask(connection))
            if not self._keep:
                connection.close()
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> object:
        try:
            connection.request("POST", "/predict", BODY, JSON)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return f"lost: {error!r}"
        return answer.status

    def _fresh(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        # A connection that the server has ended is not opened again unseen.
        connection.auto_open = 0
        return connection

    def _note(self, outcome: object) -> None:
        self.outcomes[outcome] += 1
        self.times.append((time.monotonic(), outcome))


def until(holds: Callable[[], object], within_s: float = 20.0) -> float:
    """Wait until something holds; the seconds that it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < within_s, "it did not come to hold in time"
        time.sleep(0.01)
    return time.monotonic() - started


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def runs_worker(pid: int) -> bool:
    """Whether it is a worker's program: for a moment a child is a copy of its parent, event loop and all."""
    try:
        said = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    # The second is that of a server with a registry.
    return b"shipworthy.server.worker" in said or b"shipworthy.compose" in said


def has_event_loop(pid: int) -> bool:
    try:
        return any(str(file.readlink()) == "anon_inode:[eventpoll]" for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def closed(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return True
    return False


def seconds(words: Sequence[tuple[float, object]], outcome: object) -> list[float]:
    """When there was this outcome."""
    return [at for at, other in words if other == outcome]
