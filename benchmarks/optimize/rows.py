"""The rows of the table: who makes the artifact, in which environment, and what opens it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from .subject import HERE, SUBJECTS, Subject

ENVIRONMENTS = HERE.parent / ".envs"
OLIVE_TRIALS = 4
"""Points of its space that Olive makes and measures, at most; its examples take three."""
OLIVE_SECONDS = 60
"""After which its search begins no further trial; one that is under way ends."""


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    maker: str
    """`module:function` of this package that writes the artifact, run in a process of its own."""
    opener: str
    """Name in `openers.OPENERS`."""
    peak: str | None = None
    """The matrix peak that it is measured against; None: what the made artifact says of itself."""
    environment: str | None = None
    """A folder of benchmarks/.envs; None: the project's own."""
    ours: bool = False
    streams: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] | None = None
    """The only batch sizes of the model's that it is surveyed at; None: all."""

    @property
    def python(self) -> str:
        if self.environment is None:
            return sys.executable
        return str(ENVIRONMENTS / self.environment / "bin" / "python")


ROWS = (
    Row("eager", "PyTorch eager", "make_torch:nothing", "eager", "torch-fp32"),
    Row("torchscript", "TorchScript, traced and frozen", "make_torch:torchscript", "torchscript", "torch-fp32"),
    # A compiled graph has its thread count inside, so that streams would fight for processors.
    # It is compiled for each batch size, which takes half a minute for a large model.
    Row(
        "torch-compile",
        "torch.compile, with freezing",
        "make_torch:nothing",
        "compile",
        "torch-fp32",
        streams=(1,),
        batches=(1, 8, 32),
    ),
    Row("aoti", "AOTInductor, with freezing", "make_torch:aoti", "aoti", "torch-fp32", streams=(1,)),
    Row("onnxruntime", "ONNX Runtime, defaults", "make_onnx:plain", "onnxruntime", "onnxruntime-fp32"),
    Row("onnxruntime-int8", "ONNX Runtime, static INT8", "make_onnx:static", "onnxruntime", "onnxruntime-int8"),
    Row("openvino", "OpenVINO, defaults", "make_openvino:plain", "openvino"),
    Row("openvino-fp32", "OpenVINO, fp32", "make_openvino:plain", "openvino-fp32", "openvino-fp32"),
    Row("olive", "Olive, its own search", "make_olive:search", "onnxruntime", environment="olive"),
    Row("ours", "Shipworthy", "make_ours:build", "shipworthy", ours=True),
    Row("ours-combined", "Shipworthy, best combination", "make_ours:build", "shipworthy", ours=True),
)

PEAKS = (
    Row("torch-fp32", "", "make_torch:nothing", "eager"),
    Row("torch-bf16", "", "make_torch:nothing", "eager-bf16"),
    Row("onnxruntime-fp32", "", "make_onnx:plain", "onnxruntime"),
    Row("onnxruntime-int8", "", "make_onnx:static", "onnxruntime"),
    Row("openvino-fp32", "", "make_openvino:plain", "openvino-fp32"),
    Row("openvino-bf16", "", "make_openvino:plain", "openvino-bf16"),
    Row("openvino-int8", "", "make_openvino:static", "openvino-fp32"),
)
"""Engine and precision, each on the same large matrix products."""


def rows_of(subject: Subject, only: tuple[str, ...] = ()) -> list[Row]:
    """The rows that a model has; eager always, because ratios are against it."""
    return [
        row
        for row in ROWS
        if (not row.ours or row.name in subject.contracts) and (not only or row.name in (*only, "eager"))
    ]


def subjects_named(only: tuple[str, ...]) -> list[Subject]:
    """In the order of `only`; all of them where it is empty."""
    known = {subject.name: subject for subject in SUBJECTS}
    return [known[name] for name in dict.fromkeys(only or known)]


def artifact_folder(root: Path, subject: Subject, row: Row) -> Path:
    return root / subject.name / row.name
