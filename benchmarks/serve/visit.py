"""A server while it is up: started, checked against the known answers, then measured."""

from __future__ import annotations

import http.client
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
        """Every sample once. Raises Failed where an answer is not what the engine gives."""
        for request, row in zip(self.requests, self.expected, strict=True):
            self._check(self.ask(request), row)

    def ask(self, request: Request) -> Answer:
        """Raises Failed with the status, where it is not 200, and OSError where there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ASK_S)
        try:
            connection.request("POST", request.path, request.body, request.headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise Failed(f"status {response.status}: {body[:200]!r}")
        headers = {name.lower(): value for name, value in response.getheaders()}
        return self.server.dialect(self.job.model).read(self.job.model, body, headers)

    def _check(self, found: Answer, expected: Answer) -> None:
        if found.shape != expected.shape:
            raise Failed(f"answers with {found.shape} numbers, expected {expected.shape}")
        if self.server.has_model:
            _same(found, expected, self.job)


def _same(found: Answer, expected: Answer, job: Job) -> None:
    if job.model.width < 10:
        if (worst := float(np.abs(found - expected).max())) > _CLOSE_ENOUGH:
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
    limit: int | None = None,
) -> Iterator[Visit]:
    """A server that answers, ended when the block ends. Raises Failed with its last words where it does not.

    One that lost the race for a port that it chose itself is started once more."""
    with ExitStack() as stack:

        def up() -> Visit:
            return stack.enter_context(_up(server, model, engine, workers, expected, deadline_s, without, limit))

        try:
            visit = up()
        except Failed as error:
            if "in use" not in str(error):
                raise
            visit = up()
        yield visit


@contextmanager
def _up(
    server: Server,
    model: Model,
    engine: str,
    workers: int,
    expected: Answer,
    deadline_s: float | None,
    without: str | None,
    limit: int | None,
) -> Iterator[Visit]:
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="server-", dir=CACHE))
    log = CACHE / "logs" / f"{server.name}-{model.name}-{engine}-{workers}.log".replace(" ", "-")
    job = Job(model, engine, workers, free_port(), folder, deadline_s, without, limit=limit)
    requests = tuple(server.dialect(model).ask(model, sample) for sample in model.samples())
    try:
        command = server.command(job)
        with Process(command.words, command.variables, command.folder, log) as process:
            visit = Visit(server, job, process, requests, expected, 0.0)
            first = process.wait(lambda: _answers(visit), server.start_s)
            yield Visit(server, job, process, requests, expected, first)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(visit: Visit) -> bool:
    """Whether it answers as it should; a server that is still starting refuses, resets, or says so."""
    try:
        visit._check(visit.ask(visit.requests[0]), visit.expected[0])
    except (OSError, http.client.HTTPException, Failed):
        return False
    return True
