"""The servers: how each is started, at its best for the work, and how it is asked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import dialects
from .dialects import Dialect
from .models import HERE, Model
from .process import Failed, free_port

ENVIRONMENTS = HERE.parent / ".envs"
APPS = HERE / "apps"
CORES = 2
_NO_HASTE_MS = 2000
_UVICORN = "uvicorn's limit of connections"


@dataclass(frozen=True)
class Job:
    """One way to serve one model."""

    model: Model
    engine: str
    workers: int
    port: int
    folder: Path
    """For what the server writes."""
    deadline_s: float | None = None
    """What the clients wait for at most; None where load is closed, and nobody leaves."""
    without: str | None = None
    """A feature of ours that is switched off, to see what it costs."""
    routed: str | None = None
    """How ours comes from a registry, and is shared; None where it is a file."""
    watched: bool = False
    """Whether the answers of ours are compared with a reference, at the default rate."""
    limit: int | None = None
    """Of a server that is `shed_by` its web server: what all its workers take at once; the rest is refused."""


@dataclass(frozen=True)
class Command:
    words: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    folder: Path = APPS


@dataclass(frozen=True)
class Server:
    name: str
    environment: str
    start: Callable[[Job], Command]
    records: Dialect
    """For a model of numbers."""
    pictures: Dialect | None
    """For a model of pictures; None where it serves none."""
    ours: bool = False
    has_model: bool = True
    workers: tuple[int, ...] = (1, 2)
    start_s: float = 60.0
    shed_by: str | None = None
    """What refuses requests beyond `Job.limit`, where the server itself refuses none, however late."""

    def dialect(self, model: Model) -> Dialect:
        """Raises Failed where it does not serve such models."""
        found = self.records if model.of_numbers else self.pictures
        if found is None:
            raise Failed(f"{self.name} serves no pictures")
        return found

    def command(self, job: Job) -> Command:
        """Raises Failed where there is no environment for it."""
        if not Path(python(self.environment)).exists():
            raise Failed(f"there is no environment {self.environment!r}: `make bench-serve` makes it")
        job.folder.mkdir(parents=True, exist_ok=True)
        return self.start(job)


def python(environment: str) -> str:
    return str(ENVIRONMENTS / environment / "bin" / "python")


def _program(environment: str, name: str) -> str:
    return str(ENVIRONMENTS / environment / "bin" / name)


def told(job: Job, *, streams: int = 1, delay_s: float = 0.001, **more: object) -> dict[str, str]:
    """The variables of a peer: its model and how to run it, two threads for all workers together.

    A batch that is not full waits for 1 ms, which one connection alone pays with every request: the same server is
    measured with many connections, and none of LitServe, Ray Serve, TorchServe and MLServer waits less when it is idle
    (BentoML's batcher sets its own delay).

    Where the clients have a deadline, peers get what they have against late answers: LitServe its timeout, after which
    a request that still waits is answered 504; BentoML `max_latency_ms`, beyond which its batcher refuses what it
    expects to be late; Ray Serve `max_queued_requests` of each proxy and `max_ongoing_requests` of each replica;
    TorchServe `job_queue_size`. FastAPI and MLServer have nothing: theirs is `Job.limit`."""
    small = job.model.of_numbers
    threads = 1 if small else CORES // job.workers
    deadline = job.deadline_s
    parts = {
        "graph": str(job.model.graph(job.engine)),
        "input": job.model.input,
        "dtype": job.model.dtype,
        "shape": job.model.shape,
        "threads": threads,
        "streams": min(streams, threads),
        "workers": job.workers,
        "port": job.port,
        "batch": 32 if small else 8,
        "delay_s": delay_s,
        "timeout_s": 30.0 if deadline is None else deadline,
        # As many as a server of 400 pictures per second can answer in time.
        "most_queued": -1 if deadline is None else 16,
        "most_ongoing": 256 if deadline is None else 16,
        **more,
    }
    quiet = {"OMP_NUM_THREADS": str(threads), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(APPS)}
    return {"BENCH_MODEL": json.dumps(parts), **quiet}


def _uvicorn(environment: str, app: str, job: Job) -> list[str]:
    words = [python(environment), "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(job.port)]
    # Every refusal is a warning.
    words += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"]
    if job.limit is not None:
        words += ["--limit-concurrency", str(_of_each_worker(job.limit, job.workers))]
    return [*words, *(["--workers", str(job.workers)] if job.workers > 1 else [])]


def _of_each_worker(limit: int, workers: int) -> int:
    """What uvicorn is told: with so many connections, the asking one among them, it refuses, and serves one less."""
    return -(-limit // workers) + 1


def _empty(job: Job) -> Command:
    return Command(_uvicorn("asgi", "empty:app", job))


def _fastapi(job: Job) -> Command:
    return Command(_uvicorn("fastapi", "fastapi_app:app", job), told(job, streams=2))


def _litserve(job: Job) -> Command:
    # ZeroMQ between its processes was the faster queue here with two workers, and not with one.
    return Command([python("litserve"), "litserve_app.py"], told(job, fast_queue=job.workers > 1))


def _bentoml(job: Job) -> Command:
    words = [
        _program("bentoml", "bentoml"),
        "serve",
        f"bentoml_app:{'Flowers' if job.model.of_numbers else 'Pictures'}",
    ]
    words += ["--host", "127.0.0.1", "--port", str(job.port)]
    private = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(job.folder), "DO_NOT_TRACK": "1"}
    return Command(words, {**told(job), **private})


def _mlserver(job: Job) -> Command:
    """One worker is the server's own process; two are processes beside it, as its documentation has it."""
    parallel = 0 if job.workers == 1 else job.workers
    settings = {
        "host": "127.0.0.1",
        "http_port": job.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": parallel,
        "debug": False,
        "gzip_enabled": False,
        "metrics_dir": str(job.folder),
        "environments_dir": str(job.folder / "environments"),
    }
    model = {
        "name": job.model.name,
        "implementation": "mlserver_app.Served",
        "max_batch_size": 32,
        "max_batch_time": 0.001,
    }
    (job.folder / "settings.json").write_text(json.dumps(settings))
    (job.folder / "model-settings.json").write_text(json.dumps(model))
    words = [_program("mlserver", "mlserver")]
    if job.limit is not None:
        # One process has all connections, whatever the number of workers.
        words = [python("mlserver"), str(APPS / "mlserver_limited.py"), str(_of_each_worker(job.limit, 1))]
    return Command([*words, "start", str(job.folder)], told(job, streams=2), job.folder)


def _ray(job: Job) -> Command:
    private = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_TMPDIR": "/tmp"}
    # As its documentation has it for high throughput; HAProxy, which it names beside, listens on every address.
    private["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
    return Command([python("ray"), "ray_app.py"], {**told(job), **private})


def _torchserve(job: Job) -> Command:
    """Raises Failed where its archive of the model cannot be made."""
    store = _archive(job.folder / "store")
    settings = {
        "defaultVersion": True,
        "marName": "m.mar",
        "minWorkers": job.workers,
        "maxWorkers": job.workers,
        "batchSize": 32 if job.model.of_numbers else 8,
        "maxBatchDelay": 1,
        "responseTimeout": 60,
    }
    lines = {
        "inference_address": f"http://127.0.0.1:{job.port}",
        "management_address": f"http://127.0.0.1:{free_port()}",
        "metrics_address": f"http://127.0.0.1:{free_port()}",
        "grpc_inference_port": str(free_port()),
        "grpc_management_port": str(free_port()),
        "disable_token_authorization": "true",
        "enable_envvars_config": "false",
        "disable_system_metrics": "true",
        "job_queue_size": "1000" if job.deadline_s is None else "16",
        "models": json.dumps({"m": {"1.0": settings}}),
    }
    (job.folder / "config.properties").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    words = [_program("torchserve", "torchserve"), "--foreground", "--model-store", str(store), "--models", "m=m.mar"]
    words += ["--ts-config", str(job.folder / "config.properties"), "--disable-token-auth"]
    # By default it writes an access log, a log of its own and two of metrics, several lines for each request.
    words += ["--log-config", str(APPS / "torchserve_log4j2.xml")]
    path = f"{ENVIRONMENTS / 'torchserve' / 'bin'}:/usr/bin:/bin"
    private = {"PATH": path, "LOG_LOCATION": str(job.folder / "logs"), "METRICS_LOCATION": str(job.folder / "logs")}
    return Command(words, {**told(job), **private}, job.folder)


def _archive(store: Path) -> Path:
    store.mkdir(exist_ok=True)
    words = [_program("torchserve", "torch-model-archiver"), "--model-name", "m", "--version", "1.0", "--force"]
    words += ["--handler", str(APPS / "torchserve_app.py"), "--extra-files", str(APPS / "engine.py")]
    ended = subprocess.run([*words, "--export-path", str(store)], capture_output=True, text=True)
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or [f"status {ended.returncode}"])[-1]
        raise Failed(f"torch-model-archiver failed: {last}")
    return store


_BASELINE = 1000


def _shipworthy(job: Job) -> Command:
    environment = "shipworthy" if job.model.of_numbers else "shipworthy-openvino"
    if job.without is not None:
        words = [python(environment), str(APPS / "without.py"), job.without]
    elif job.routed is not None:
        words = [python(environment), str(APPS / "routed.py"), job.routed]
    else:
        words = [_program(environment, "shipworthy")]
    words += ["serve", str(job.model.package), "--port", str(job.port)]
    # The first answers are the reference: the package was built with too few samples for one.
    words += ["--monitor-baseline", str(_BASELINE)] if job.watched else ["--no-monitor"]
    if not job.model.of_numbers:
        # Under closed load nobody has a deadline, and a client that is refused would only ask again at once.
        words += ["--target-ms", str(_NO_HASTE_MS if job.deadline_s is None else round(job.deadline_s * 1e3))]
    return Command([*words, *(["--workers", str(job.workers)] if job.workers > 1 else [])], {}, job.folder)


OURS = "Shipworthy"
EMPTY = "empty ASGI"
SERVERS = (
    Server(EMPTY, "asgi", _empty, dialects.EMPTY, None, has_model=False),
    Server("FastAPI", "fastapi", _fastapi, dialects.PROBABILITIES, dialects.raw("/raw"), shed_by=_UVICORN),
    Server("LitServe", "litserve", _litserve, dialects.PROBABILITIES, dialects.raw("/predict")),
    Server("BentoML", "bentoml", _bentoml, dialects.ROWS, dialects.FORM),
    Server("MLServer", "mlserver", _mlserver, dialects.TENSORS, dialects.raw("/raw"), shed_by=_UVICORN),
    Server("Ray Serve", "ray", _ray, dialects.PROBABILITIES, dialects.raw("/predict"), start_s=120.0),
    Server(
        "TorchServe",
        "torchserve",
        _torchserve,
        dialects.at_path("/predictions/m", dialects.PROBABILITIES),
        dialects.raw("/predictions/m"),
        start_s=120.0,
    ),
    Server(OURS, "shipworthy", _shipworthy, dialects.PROBABILITIES, dialects.BINARY_TENSORS, ours=True),
)
