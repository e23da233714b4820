"""Quantization-aware training: NNCF finds where and how wide, the module is trained with it, every engine takes it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ...contract import Contract
from ...data import Dataset
from ...errors import CompressError
from ...evidence import Compression, Epoch, QuantizedOperation
from ...exporters.fake_quantize import FakeQuantize
from ...exporters.noise import collected
from ...model import LoadedModel
from ...runtime import Host, this_host
from ...runtime.guarded import first_line
from ...usercode import importing_from
from ..made import Reshaped
from ..methods import Qat
from ..progress import Shown, epochs_shown
from ..reports import mean_abs_diff, one_feed
from ..sizes import bytes_of, parameters_of
from ..subject import ModelLike, Subject, subject_of
from ..training import Loader, resolve_step, train, validator
from .calibration import chosen, feeds_of, few_samples, unlike_validation
from .folding import Seen, fold, seen_in
from .openvino_nncf import quiet_nncf
from .ranges import TrainedRange, grid_of
from .scheme import Scheme, scheme_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...contract import Arrays
    from ..methods import TrainStep
    from ..training import MakeOptimizer, MakeScheduler


class Root(nn.Module):
    """A module around an nn.Sequential, whose own class iterates over its children, so that hooks cannot be added."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        # Named: hooks do not see what is inside of *args.
        return self.module(x)


def qat(
    model: ModelLike,
    contract: Contract | str | Path | None = None,
    method: Qat | None = None,
    *,
    calibration: Dataset | None = None,
    train: object = None,
    validation: object = None,
    train_step: TrainStep | None = None,
    checkpoint: Path | None = None,
    progress: Shown = True,
    host: Host | None = None,
    optimizer: MakeOptimizer | None = None,
    scheduler: MakeScheduler | None = None,
) -> Reshaped:
    """Train `model` with fake quantization; `exporters.export(..., "int8")` makes a graph of what comes out.

    Ranges start from `calibration`, or from the training data where there is none. Normalisation behind convolutions
    is folded first, and ranges and weights are trained together. The layout is that of `host`, which is this one where
    it is not given. A training that finds its own checkpoint goes on from there, to the same bits.

    Raises CompressError where there is no training data, where nothing can be quantized, or the training fails."""
    method = method or Qat()
    subject = subject_of(model, contract, train, validation)
    if subject.train is None:
        raise CompressError("qat", "there is no training data", "give train=..., or name it in data.train")
    step = resolve_step(subject.contract, train_step)
    scheme = scheme_for(host or this_host())
    samples = _calibration(subject, calibration, method)
    module, notes = fake_quantized(subject.module, subject.contract, samples, scheme)
    with importing_from(subject.contract.root), epochs_shown("qat", method.training.epochs, progress) as told:
        epochs = _trained(module, step, subject, method, checkpoint, told, optimizer=optimizer, scheduler=scheduler)
    settle(module)
    findings = few_samples(samples)
    if calibration is not None and subject.validation is not None:
        findings += unlike_validation(samples, subject.validation, subject.contract)
    report = _report(subject, module, epochs, (*notes, f"ranges start from {len(samples)} samples"))
    return Reshaped(LoadedModel("module", module, notes=("trained with fake quantization",)), report, findings)


def fake_quantized(
    module: nn.Module, contract: Contract, samples: Dataset, scheme: Scheme
) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of `module` whose products and convolutions see 8-bit values, with ranges that can be trained; and notes.

    Raises CompressError where NNCF cannot follow the module, or finds nothing to quantize."""
    copied = _thawed(copy.deepcopy(module).eval())
    with collected():
        seen = seen_in(copied, contract, one_feed(contract, samples))
    folded = fold(copied, seen.pairs) if seen is not None else 0
    inner = Root(copied) if isinstance(copied, nn.Sequential) else copied
    quantized = _calibrated(inner, feeds_of(samples, contract), contract, scheme, seen)
    storage = _storage(quantized)
    found = [(name, part) for name, part in storage.named_hooks() if hasattr(part, "get_parameters_for_torch_fq")]
    if not found:
        raise CompressError(contract.name, "has no convolution or product that could be int8", "keep it in fp32")
    for name, part in found:
        storage.set_submodule(name, TrainedRange(grid_of(part, scheme)))
    notes = [scheme.reason]
    if folded:
        notes.append(f"{folded} normalisations were folded into the convolutions before them")
    if seen is None:
        notes.append("torch.export does not take the module: its normalisations were not folded")
    return quantized, tuple(notes)


def _thawed(module: nn.Module) -> nn.Module:
    """Where nothing at all can be trained, all of it is: else ranges alone would learn."""
    parameters = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    if not any(parameter.requires_grad for parameter in parameters):
        for parameter in parameters:
            parameter.requires_grad_(True)
    return module


def settle(module: nn.Module) -> None:
    """Make constants of the trained ranges, in place."""
    storage = _storage(module)
    for name, part in list(storage.named_hooks()):
        if isinstance(part, TrainedRange):
            storage.set_submodule(name, part.settled())
    module.eval()


def _calibration(subject: Subject, given: Dataset | None, method: Qat) -> Dataset:
    if given is not None:
        return chosen(given, subject.contract, method.samples)
    assert subject.train is not None
    if isinstance(subject.train, Dataset):
        return chosen(subject.train, subject.contract, method.samples)
    if subject.validation is not None:
        return chosen(subject.validation, subject.contract, method.samples)
    raise CompressError(
        "qat", "has a loader of training data, and no samples to start the ranges from", "give calibration=..."
    )


def _calibrated(
    module: nn.Module, feeds: Sequence[Arrays], contract: Contract, scheme: Scheme, seen: Seen | None
) -> nn.Module:
    import torch

    items = [tuple(torch.tensor(feed[name]) for name in contract.inputs) for feed in feeds]
    with quiet_nncf() as nncf, torch.no_grad():
        _without_compiling()
        presets = nncf.QuantizationPreset
        try:
            quantized: nn.Module = nncf.quantize(
                module,
                nncf.Dataset(items),
                preset=presets.PERFORMANCE if scheme.symmetric_activations else presets.MIXED,
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(items),
                model_type=nncf.ModelType.TRANSFORMER if seen is not None and seen.attention else None,
                advanced_parameters=_advanced(scheme),
            )
        except Exception as error:  # NNCF raises whatever a module that it cannot follow leads it to
            remedy = "use static quantization, which works on the engine's graph"
            raise CompressError("nncf.quantize", first_line(error), remedy) from error
    return quantized


def _advanced(scheme: Scheme) -> Any:
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )

    return AdvancedQuantizationParameters(
        overflow_fix=OverflowFix.ENABLE if scheme.narrow_weights else OverflowFix.DISABLE,
        # By channel, which NNCF takes for depthwise convolutions, is executed in int8 by OpenVINO alone.
        activations_quantization_params=QuantizationParameters(per_channel=False),
    )


def _without_compiling() -> None:
    """NNCF compiles a C++ extension for its quantizers at their first use, which takes a minute or more, needs a
    compiler, and blocks every later run where the first one was killed. They only serve to calibrate here."""
    from nncf.torch.quantization import extensions, reference

    class Plain:
        Quantize_forward = staticmethod(reference.torch_executor.forward)
        Quantize_backward = staticmethod(reference.torch_executor.backward)

    extensions.QuantizedFunctionsCPU._loaded_namespace = Plain


def _storage(module: nn.Module) -> Any:
    from nncf.torch.function_hook.wrapper import get_hook_storage

    return get_hook_storage(module)


def _trained(
    module: nn.Module,
    step: TrainStep,
    subject: Subject,
    method: Qat,
    checkpoint: Path | None,
    told: Callable[[Epoch], None],
    *,
    optimizer: MakeOptimizer | None,
    scheduler: MakeScheduler | None,
) -> tuple[Epoch, ...]:
    assert subject.train is not None
    return train(
        module,
        step,
        subject.train,
        method.training,
        validate=validator(subject.contract, subject.validation, subject.module),
        checkpoint=checkpoint,
        told=told,
        optimizer=optimizer,
        scheduler=scheduler,
        identified_by="qat",
    )


def _report(subject: Subject, module: nn.Module, epochs: tuple[Epoch, ...], notes: tuple[str, ...]) -> Compression:
    operations, saved = _operations(module)
    before = bytes_of(subject.module)
    return Compression(
        recipe="qat",
        parameters_before=parameters_of(subject.module),
        parameters_after=parameters_of(module),
        bytes_before=before,
        bytes_after=before - saved,
        mean_abs_diff=mean_abs_diff(subject.answers_of(subject.module), subject.answers_of(module), subject.samples),
        samples=None if isinstance(subject.train, Loader) else len(subject.train or ()),
        operations=operations,
        epochs=epochs,
        notes=(*notes, "bytes after are those of a graph with int8 weights"),
    )


def _operations(module: nn.Module) -> tuple[tuple[QuantizedOperation, ...], int]:
    """The layers with quantized weights, and the bytes that int8 saves there."""
    from nncf.torch.function_hook.hook_storage import decode_hook_name

    found, saved, parts = [], 0, dict(module.named_modules())
    for hook, part in _storage(module).named_hooks():
        kind, place, port = decode_hook_name(hook)
        path, function, _ = place.rsplit("/", 2) if place.count("/") > 1 else ("", place, "")
        if not isinstance(part, FakeQuantize) or kind != "pre_hooks" or port == 0:
            continue
        layer = path.replace("/", ".")
        found.append(QuantizedOperation(name=layer, op=function, precision="int8"))
        weight = getattr(parts.get(layer), "weight", None)
        saved += 0 if weight is None else weight.numel() * (weight.element_size() - 1)
    return tuple(found), saved
