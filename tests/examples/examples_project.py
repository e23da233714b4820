"""An example as a reader runs it: a copy of the folder, and the commands of its README."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from shipworthy.contract import Contract, read_contract
from shipworthy.measure import Caps, Course, SurveyTimes
from shipworthy.select import Effort, build

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
QUICK = Effort(
    caps=Caps(export_s=240, step_s=120),
    times=SurveyTimes(curve_s=0.02, point_s=0.01, warm_s=0.005),
    course=Course(rounds=5, slice_s=0.02),
)


@dataclass(frozen=True, slots=True)
class Example:
    """A copy of an example's folder in which train.py has run."""

    folder: Path
    said: str
    """What train.py has printed."""

    @classmethod
    def trained(cls, name: str, folder: Path) -> Example:
        """Copy the example of this name to `folder`, without what was made in it, and run its train.py."""
        made = ("*.npz", "*.safetensors", "*.ship", "*.json", ".shipworthy", "__pycache__")
        shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns(*made))
        first = readme_commands(folder)[0]
        assert first == "python train.py"
        ended = run(first, folder)
        assert ended.returncode == 0, ended.stderr
        return cls(folder, ended.stdout)

    @property
    def contract(self) -> Contract:
        return read_contract(self.folder / "shipworthy.toml")

    @property
    def commands(self) -> list[str]:
        """The README's, in their order."""
        return readme_commands(self.folder)

    def commands_of(self, verb: str) -> list[str]:
        return [command for command in self.commands if command.startswith(f"shipworthy {verb}")]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return run(command, self.folder)

    def build(self, engines: list[str], *, full: bool) -> Path:
        """The package. In full it is the README's own command; else fewer candidates are measured, and shortly."""
        package = self.folder / f"{self.contract.name}.ship"
        if full:
            (command,) = self.commands_of("build")
            ended = self.run(f"{command} --quiet")
            assert ended.returncode == 0, ended.stderr
            return package
        contract = self.contract
        search = contract.search.model_copy(update={"precisions": ("fp32",)})
        # The 99th percentile of a few runs on a busy host says nothing.
        limits = contract.limits.model_copy(update={"p99_ms": None})
        contract = contract.model_copy(update={"search": search, "limits": limits})
        report = build(contract, engines=engines, progress=False, effort=QUICK)
        assert report.best is not None, report.record.why
        return report.best.save(package)

    def curl_body(self) -> bytes:
        """What the README's curl command sends."""
        (command,) = [command for command in self.commands if command.startswith("curl")]
        words = shlex.split(command)
        body = words[words.index("-d") + 1]
        return (self.folder / body[1:]).read_bytes() if body.startswith("@") else body.encode()


def readme_commands(folder: Path) -> list[str]:
    return re.findall(r"^\$ (.+)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of a README with this Python and its own shipworthy."""
    words = shlex.split(command)
    programs = {"python": [sys.executable], "shipworthy": [sys.executable, "-m", "shipworthy"]}
    return subprocess.run([*programs[words[0]], *words[1:]], cwd=folder, capture_output=True, text=True, timeout=280)
