"""A server while it is up: started, checked against the known answers, then measured."""

from __future__ import annotations

import http.client
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .dialects import Answer, Request
from .models import CACHE, INT8, Model
from .process import Failed, Process, free_port
from .servers import Job, Server

_CLOSE_ENOUGH = 1e-4
"""Largest difference of a probability."""
_LEAST_SQNR_DB = {INT8: 20.0}
"""A batch of another size may be rounded otherwise, which eight bits make visible; other graphs have 40 dB."""
_ASK_S = 30.0


@dataclass(frozen=True)
class Visit:
    """A server that has given its first good answer."""

    server: Server
    job: Job
    process: Process
    requests: tuple[Request, ...]
    expected: Answer
    """[SAMPLES, width] of the engine itself."""
    first_answer_s: float

    @property
    def port(self) -> int:
        return self.job.port

    def check(self) -> None:
        """Every sample once, all at the same time, so that they share batches. A server with a deadline or a limit may
        refuse what comes at once: it is asked in turn. Raises Failed where an answer is not what the engine gives."""
        waits = self.job.deadline_s is None and self.job.limit is None
        with ThreadPoolExecutor(len(self.requests) if waits else 1) as pool:
            found = list(pool.map(self.ask, self.requests))
        for answer, row in zip(found, self.expected, strict=True):
            self._compare(answer, row)

    def trouble(self) -> str | None:
        """Why it does not answer as it should; a server that is still starting refuses, resets, or says so."""
        try:
            self._compare(self.ask(self.requests[0]), self.expected[0])
        except Failed as error:
            return str(error)
        return None

    def ask(self, request: Request) -> Answer:
        """Raises Failed where there is no answer, its status is not 200, or it cannot be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ASK_S)
        try:
            connection.request("POST", request.path, request.body, request.headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"no answer: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise Failed(f"status {response.status}: {body[:200]!r}")
        headers = {name.lower(): value for name, value in response.getheaders()}
        try:
            return self.server.dialect(self.job.model).read(self.job.model, body, headers)
        except Failed:
            raise
        except Exception as error:  # What a stranger answers may break a reader anyhow.
            raise Failed(f"an answer that cannot be read: {type(error).__name__}: {error}: {body[:80]!r}") from error

    def _compare(self, found: Answer, expected: Answer) -> None:
        if found.shape != expected.shape:
            raise Failed(f"answers with {found.shape} numbers, expected {expected.shape}")
        if self.server.has_model:
            _same(found, expected, self.job)


def _same(found: Answer, expected: Answer, job: Job) -> None:
    if job.model.width < 10:
        # A number that is none differs, too.
        if not (worst := float(np.abs(found - expected).max())) <= _CLOSE_ENOUGH:
            raise Failed(f"answers with other numbers than the engine: they differ by {worst:.2g}")
        return
    noise = float(np.square(expected.astype(np.float64) - found).sum())
    ratio = 10 * np.log10(float(np.square(expected.astype(np.float64)).sum()) / max(noise, 1e-300))
    if not ratio >= _LEAST_SQNR_DB.get(job.engine, 40.0):
        raise Failed(f"answers with other numbers than the engine: SQNR {ratio:.1f} dB")


@contextmanager
def visited(
    server: Server,
    model: Model,
    engine: str,
    workers: int,
    expected: Answer,
    *,
    deadline_s: float | None = None,
    without: str | None = None,
    routed: str | None = None,
    watched: bool = False,
    limit: int | None = None,
) -> Iterator[Visit]:
    """A server that answers, ended when the block ends. Raises Failed with its last words where it does not.

    One that lost the race for a port that it chose itself is started once more."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:

        def up() -> Visit:
            folder = Path(tempfile.mkdtemp(prefix="server-", dir=CACHE))
            job = Job(model, engine, workers, free_port(), folder, deadline_s, without, routed, watched, limit)
            return stack.enter_context(_up(server, job, expected))

        try:
            visit = up()
        except Failed as error:
            if "in use" not in str(error):
                raise
            visit = up()
        yield visit


@contextmanager
def _up(server: Server, job: Job, expected: Answer) -> Iterator[Visit]:
    try:
        requests = tuple(server.dialect(job.model).ask(job.model, sample) for sample in job.model.samples())
        command = server.command(job)
        with Process(command.words, command.variables, command.folder, _log(server, job)) as process:
            visit = Visit(server, job, process, requests, expected, 0.0)
            yield replace(visit, first_answer_s=process.wait(visit.trouble, server.start_s))
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)


def _log(server: Server, job: Job) -> Path:
    state = f"-without-{job.without}" if job.without else f"-{job.routed}" if job.routed else ""
    state += "-watched" if job.watched else ""
    name = f"{server.name}-{job.model.name}-{job.engine}-{job.workers}{state}.log"
    return CACHE / "logs" / name.replace(" ", "-").replace("/", "")
