"""Olive: its workflow engine searches over quantizations by itself, on our data. Runs in Olive's environment.

Its command `olive optimize` is made for language models: for INT8 it calibrates with a text set that it downloads, on
CUDA. So this is the workflow that its own CPU examples (resnet_ptq_cpu, bert_ptq_cpu) use: convert, optimise
transformers, then search the whole space of its OnnxQuantization pass (dynamic or static, QDQ or QOperator, signed or
unsigned, per channel, reduced range, three calibrations) with its TPE sampler, measuring latency, and accuracy where
there are labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from olive import run
from olive.data.registry import Registry
from olive.engine import footprint

from .rows import OLIVE_SECONDS, OLIVE_TRIALS
from .subject import Subject

BATCH = 8
_SEED = 0


class Rows(torch.utils.data.Dataset[Any]):
    """Samples as its data loader wants them: inputs by name, and a label."""

    def __init__(self, subject: Subject, split: str) -> None:
        self._rows = subject.rows(split)
        self._count = len(next(iter(self._rows.values())))
        self._labels = subject.labels(split) if split == "validation" else [0] * self._count

    def __len__(self) -> int:
        return self._count - self._count % BATCH

    def __getitem__(self, index: int) -> tuple[dict[str, Any], Any]:
        return {name: array[index] for name, array in self._rows.items()}, self._labels[index]


def search(subject: Subject, folder: Path, name: str) -> dict[str, Any]:
    """Write the best model that its search finds."""
    _mend()
    _register(subject)
    best = run(_workflow(subject, folder)).get_best_candidate()
    if best is None:
        raise SystemExit("its search ended without a model that meets the goals")
    size = _copy(Path(best.model_path), folder)
    for done in ("cache", "searched"):
        shutil.rmtree(folder / done, ignore_errors=True)
    return {"size_mb": size, "precision": "int8", "peak": "onnxruntime-int8", "detail": _words(best)}


def _mend() -> None:
    """Let the search of version 0.13.0 go on where two points share a pass: it records a model under a field's alias,
    which its own record refuses the second time, so that every later point fails."""
    plain = footprint.FootprintNode.update

    def update(self: Any, **parts: Any) -> None:
        if "model_config" in parts:
            parts["model_config_data"] = parts.pop("model_config")
        plain(self, **parts)

    footprint.FootprintNode.update = update


def _copy(source: Path, folder: Path) -> float:
    """The model under the name that the benchmark opens, inside one file; its size in 10^6 bytes."""
    import onnx

    onnx.save(onnx.load(str(source)), str(folder / "model.onnx"))
    return (folder / "model.onnx").stat().st_size / 1e6


def _register(subject: Subject) -> None:
    def rows(split: str, **_: object) -> Rows:
        return Rows(subject, split)

    def best_class(output: Any) -> torch.Tensor:
        scores: torch.Tensor = output if torch.is_tensor(output) else next(iter(output.values()))
        return scores.argmax(dim=-1)

    Registry.register_dataset("benchmark_rows")(rows)
    Registry.register_post_process("benchmark_class")(best_class)


def _workflow(subject: Subject, folder: Path) -> dict[str, Any]:
    return {
        "input_model": {
            "type": "PyTorchModel",
            "model_loader": lambda _: subject.module(),
            "io_config": _io(subject),
            "dummy_inputs_func": lambda _: tuple(torch.from_numpy(array) for array in subject.feeds(2).values()),
        },
        "systems": {
            "host": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
            }
        },
        "host": "host",
        "target": "host",
        "data_configs": [_data("calibration"), *([_data("validation")] if subject.classes else [])],
        "evaluators": {"benchmark": {"metrics": _metrics(subject)}},
        "evaluator": "benchmark",
        "passes": _passes(subject),
        "search_strategy": {
            "execution_order": "joint",
            "sampler": "tpe",
            "sampler_config": {"max_samples": OLIVE_TRIALS, "seed": _SEED},
            "max_time": OLIVE_SECONDS,
        },
        "cache_dir": str(folder / "cache"),
        "output_dir": str(folder / "searched"),
        "log_severity_level": 2,
    }


def _io(subject: Subject) -> dict[str, Any]:
    return {
        "input_names": list(subject.inputs),
        "input_shapes": [[2, *one.shape] for one in subject.inputs.values()],
        "input_types": [one.dtype for one in subject.inputs.values()],
        "output_names": ["output"],
        "dynamic_axes": {name: {"0": "batch"} for name in (*subject.inputs, "output")},
    }


def _data(split: str) -> dict[str, Any]:
    return {
        "name": split,
        "type": "DataContainer",
        "load_dataset_config": {"type": "benchmark_rows", "split": split},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "benchmark_class"},
        "dataloader_config": {"batch_size": BATCH},
    }


def _metrics(subject: Subject) -> list[dict[str, Any]]:
    settings = {"onnx": {"session_options": {"intra_op_num_threads": 2}}}
    speed = {
        "name": "latency",
        "type": "latency",
        "data_config": "calibration",
        "sub_types": [
            {
                "name": "avg",
                "priority": 2 if subject.classes else 1,
                "metric_config": {"warmup_num": 2, "repeat_test_num": 5},
            },
        ],
        "user_config": {"inference_settings": settings},
    }
    if subject.classes is None:
        return [speed]
    right = {
        "name": "accuracy",
        "type": "accuracy",
        "data_config": "validation",
        "sub_types": [
            {
                "name": "accuracy_score",
                "priority": 1,
                "metric_config": {"task": "multiclass", "num_classes": subject.classes},
                "goal": {"type": "max-degradation", "value": 0.01},
            }
        ],
    }
    return [right, speed]


def _passes(subject: Subject) -> dict[str, Any]:
    fusion = {
        "type": "OrtTransformersOptimization",
        "model_type": subject.kind,
        "num_heads": 12,
        "hidden_size": 768,
        "opt_level": 0,
    }
    return {
        "conversion": {"type": "OnnxConversion"},
        **({"fusion": fusion} if subject.kind in ("bert", "vit") else {}),
        "quantization": {"type": "OnnxQuantization", "data_config": "calibration"},
    }


def _words(best: Any) -> str:
    """The settings of the quantization that was chosen."""
    settings = best._model_node.pass_run_config or {}
    named = ("quant_mode", "quant_format", "precision", "per_channel", "calibrate_method")
    return ", ".join(f"{name} {settings[name]}" for name in named if settings.get(name) is not None)
