"""The demo, told step by step."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..contract import FILE_NAME, Contract, read_contract
from ..errors import MissingExtra, ShipworthyError
from ..predict import load
from ..server.sockets import bind
from .asking import Classes, ask_http, ask_predictor
from .drifting import noise_until_alarm
from .serving import ServedPackage

if TYPE_CHECKING:
    from ..data import Chunk
    from ..evidence import BuildRecord
    from ..select import BuildReport

_PROJECT = ("train.py", FILE_NAME)
_TRAINED = "digits.safetensors"
_MARKER = ".shipworthy-demo"
_NEEDED = (
    ("torch", "build"),
    ("altair", "build"),
    ("sklearn", "demo"),
    ("httpx", "demo"),
    ("PIL", "images"),
)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo saw; accuracies are on held-out images that neither training nor search has seen."""

    accuracy_eager: float
    accuracy_in_process: float
    accuracy_http: float
    engines: tuple[str, ...]
    """That were measured."""
    chosen: str
    speedup: float
    """Throughput of the chosen variant over eager PyTorch's, over interleaved rounds."""
    package: str
    first_answer_s: float
    """From the command to the first answer over HTTP."""
    drift: str
    """What the monitor said when noise had begun."""
    drift_scored: int
    """Requests that it had scored until then, those without noise among them."""

    def json_line(self) -> str:
        return json.dumps(asdict(self))


def run_demo(directory: Path, *, once: bool = False, port: int = 8000) -> DemoResult:
    """Train, check, build, pack, serve and ask, in the folder `directory`; then serve until interrupted, unless `once`.

    A second run in the same folder takes up what is there. Raises MissingExtra where an extra is not installed."""
    _look_for_extras()
    # Found now, not after minutes of building.
    bind("127.0.0.1", port).close()
    console = Console(stderr=once, highlight=False)
    contract = _project(directory, console)
    built = _built(contract, console)
    if built.best is None:
        raise ShipworthyError("the demo's build", f"chose nothing: {built.record.why}", "see the table for the reasons")
    package = built.best.save(directory / "digits.ship")
    (directory / "report.html").write_text(built.html(), encoding="utf-8")
    console.print(
        f"\n[bold]Packed[/] {package} ({package.stat().st_size / 1e6:.2f} MB); report in {directory}/report.html"
    )
    with ServedPackage(package, port) as served:
        result = _asked(contract, built.record, package, served, console)
        _tell(result, served.url, console)
        if not once:
            _show_addresses(served.url, directory, console)
            served.wait()
    return result


def _look_for_extras() -> None:
    for module, extra in _NEEDED:
        if find_spec(module) is None:
            raise MissingExtra("the demo", module, extra)


def _project(directory: Path, console: Console) -> Contract:
    """Copy the project, and train it unless that was done before."""
    _claim(directory)
    with as_file(files(__package__) / "digits") as source:
        for name in _PROJECT:
            if not (directory / name).exists():
                shutil.copyfile(source / name, directory / name)
    if (directory / _TRAINED).exists():
        console.print(f"[bold]Trained before[/]: {directory / _TRAINED} (delete the folder to begin anew)")
    else:
        console.print(f"[bold]Training[/] a small net on real handwritten digits, in {directory}/")
        # In a process of its own, as a user would: what training leaves behind stays there.
        out = sys.stderr if console.stderr else sys.stdout
        done = subprocess.run([sys.executable, "train.py"], cwd=directory, stdout=out, check=False)
        if done.returncode != 0:
            raise ShipworthyError(f"{directory}/train.py", f"ended with exit status {done.returncode}")
    return read_contract(directory / FILE_NAME)


def _claim(directory: Path) -> None:
    """Make the folder, or know it again; a folder of the user's own is left alone."""
    if (
        directory.exists()
        and not (directory / _MARKER).exists()
        and (not directory.is_dir() or any(directory.iterdir()))
    ):
        raise ShipworthyError(str(directory), "is there already, and is not the demo's", "give another --directory")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _MARKER).touch()


def _built(contract: Contract, console: Console) -> BuildReport:
    from ..select import build

    console.print("[bold]Checking and building[/]: every engine and precision, each in a process of its own")
    built = build(contract)
    for finding in built.record.findings:
        console.print(f"{finding.severity} {finding.rule}: {finding.why}", markup=False)
    console.print(built.table())
    console.print(built.record.why, markup=False)
    return built


def _asked(
    contract: Contract, record: BuildRecord, package: Path, served: ServedPackage, console: Console
) -> DemoResult:
    """Held-out images to the server, to the package in this process, and to eager PyTorch."""
    from ..data import load_splits

    holdout = load_splits(contract).holdout
    assert holdout is not None, "the contract names one"
    (chunk,) = holdout.chunks
    images, labels = chunk.inputs["image"], chunk.targets
    assert labels is not None, "the demo's data has labels"
    with served.client() as client:
        ask_http(client, images[:1])
        first_answer_s = served.seconds()
        over_http = ask_http(client, images)
        console.print("\n[bold]Disturbing[/] what is asked: noise, until the monitor says so")
        alarm = noise_until_alarm(client, images, contract.name)
    with load(package, allow_code=True) as predictor:
        in_process = ask_predictor(predictor, images)
    if over_http != in_process:
        raise ShipworthyError("the demo's server", "classifies other than the same package does in this process")
    chosen = next(result for result in record.results if result.candidate.id == record.chosen)
    baseline = record.results[0].candidate.id
    return DemoResult(
        accuracy_eager=_eager(contract, chunk).accuracy(labels),
        accuracy_in_process=in_process.accuracy(labels),
        accuracy_http=over_http.accuracy(labels),
        engines=tuple(dict.fromkeys(r.candidate.engine for r in record.results if r.evidence.throughput)),
        chosen=chosen.candidate.id,
        speedup=next(speed.ratio for speed in chosen.evidence.speed if speed.against == baseline),
        package=str(package),
        first_answer_s=round(first_answer_s, 3),
        drift=alarm.summary,
        drift_scored=alarm.scored,
    )


def _eager(contract: Contract, chunk: Chunk) -> Classes:
    from ..model import load_model, run_eager

    outputs = run_eager(load_model(contract), contract.signature, chunk.inputs)
    return Classes(tuple(int(row.argmax()) for row in next(iter(outputs.values()))))


def _tell(result: DemoResult, url: str, console: Console) -> None:
    console.print(f"\n[bold]Served[/] at {url}; first answer {result.first_answer_s:.2f} s after the command")
    console.print("Accuracy on held-out images that nothing has seen before:")
    console.print(f"  eager PyTorch          {result.accuracy_eager:.4f}")
    console.print(f"  {result.chosen:<22} {result.accuracy_in_process:.4f} in process")
    console.print(f"  {result.chosen:<22} {result.accuracy_http:.4f} over HTTP")
    console.print(f"{result.chosen} has {result.speedup:.1f} times eager's throughput.")
    console.print(f"Drift was noticed after {result.drift_scored} scored requests: {result.drift}", markup=False)


def _show_addresses(url: str, directory: Path, console: Console) -> None:
    console.print(f"\nOpen  {url}/docs      to try it\n      {url}/health")
    console.print(f"      {(directory / 'report.html').resolve().as_uri()}")
    console.print("Stop it with Ctrl-C.")
