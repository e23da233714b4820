"""The demo's server: the real command, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import ServeError

if TYPE_CHECKING:
    import httpx

READY = "ready: "
"""How the line begins in which `shipworthy serve` says its address."""
_STOP_S = 20.0


class ServedPackage:
    """`shipworthy serve PACKAGE` as a child process; as a context manager it never outlives its block."""

    def __init__(self, package: Path, port: int) -> None:
        """Starts it and returns when it is ready. Raises ServeError with what it said where it ends before that."""
        # The demo has built the package itself, so what its variants execute is known.
        command = [sys.executable, "-m", "shipworthy", "serve", str(package), "--port", str(port), "--allow-code"]
        self._started = time.perf_counter()
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors, text=True)
        try:
            self.url = self._await_ready()
        except BaseException:
            self.stop()
            raise
        """Such as http://127.0.0.1:8000."""

    def client(self) -> httpx.Client:
        import httpx

        return httpx.Client(base_url=self.url, timeout=30)

    def seconds(self) -> float:
        """Since the command was given."""
        return time.perf_counter() - self._started

    def wait(self) -> None:
        """Until it ends by itself, or the user interrupts."""
        with suppress(KeyboardInterrupt):
            self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _await_ready(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(READY):
                return line.removeprefix(READY).split()[0]
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip() or f"exit status {self._process.returncode}"
        raise ServeError("the demo's server", f"did not start: {said}", "give another --port, such as 0")

    def __enter__(self) -> ServedPackage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
