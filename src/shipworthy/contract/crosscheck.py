"""What the parts of a contract imply of each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from .accept import CHANNELS, ImageAccept, RecordEncode, TextEncode
from .faults import Fault, KeyPath, nearest, quoted
from .references import Reference
from .tensors import BATCH, Dim

if TYPE_CHECKING:
    from .spec import Contract, InputSpec

MODEL_SUFFIXES = (".pt2", ".pt", ".onnx")
DEFAULT_METRIC = ("classification", "multilabel", "regression", "embedding")
"""Tasks that are scored without a metric being named."""
METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "multilabel_f1", "r2", "neg_mae", "neg_rmse", "cosine")
"""Metrics that are known by name."""


class ContradictionError(ValueError):
    """Parts of a contract that are right by themselves do not fit together."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        super().__init__("\n".join(f"{fault.key}: {fault.reason}" for fault in faults))


def contradictions(contract: Contract) -> Iterator[Fault]:
    """Every fault that shows only when two parts are looked at together."""
    for rule in (_model, _code, _dimensions, _padding, _images, _encoders, _task, _limits, _search, _device, _repeats):
        yield from rule(contract)


def _model(contract: Contract) -> Iterator[Fault]:
    model = contract.model
    if model is None:
        if contract.weights is not None:
            yield Fault(("weights",), "weights need the model that they fit", 'name it: model = "module:callable"')
        return
    is_code = Reference.parse(model) is not None
    if not is_code and not model.lower().endswith(MODEL_SUFFIXES):
        reason = f'expected "module:callable" or a file that ends in {quoted(MODEL_SUFFIXES)}, got "{model}"'
        yield Fault(("model",), reason, _model_remedy(model))
    if contract.weights is not None and not is_code:
        yield Fault(("weights",), f'"{model}" has its own weights', "remove weights, or name the model by its code")
    if contract.task.post is not None and model.lower().endswith(".onnx"):
        yield Fault(
            ("task", "post"),
            "an nn.Module cannot be exported behind an .onnx file",
            "put it into the graph when you export it, or name the model by its code",
        )


def _model_remedy(model: str) -> str:
    if model.lower().endswith((".pth", ".ckpt", ".bin", ".safetensors")):
        return f'that holds weights: write weights = "{model}" and name the model\'s code as model = "module:callable"'
    if model.endswith(".py"):
        return f'name the callable in it: model = "{model.removesuffix(".py").replace("/", ".")}:build_model"'
    return 'such as model = "train:build_model"'


def _code(contract: Contract) -> Iterator[Fault]:
    task, search, metric = contract.task, contract.search, contract.data.metric
    references: list[tuple[KeyPath, str | None]] = [
        (("task", "post"), task.post),
        (("search", "train_step"), search.train_step),
        (("search", "distill"), search.distill),
    ]
    if metric is not None and ":" in metric:
        references.append((("data", "metric"), metric))
    elif metric is not None and metric not in METRICS:
        near = nearest(metric, METRICS)
        reason = f'expected {quoted(METRICS)} or "module:callable", got "{metric}"'
        yield Fault(("data", "metric"), reason, f'write "{near}"' if near else "")
    for path, text in references:
        if text is not None and Reference.parse(text) is None:
            yield Fault(path, f'expected "module:callable", got "{text}"', f'such as {path[-1]} = "train:{path[-1]}"')


def _dimensions(contract: Contract) -> Iterator[Fault]:
    """A name is one size in one run, so it has one pair of bounds."""
    seen: dict[str, tuple[str, Dim]] = {}
    for name, spec in contract.inputs.items():
        for axis, dim in enumerate(spec.shape):
            if not isinstance(dim, Dim):
                continue
            path: KeyPath = ("inputs", name, "shape", axis)
            if dim.name == BATCH and axis:
                yield Fault(path, 'the dimension "batch" stands first, and once', "give this axis another name")
            first, known = seen.setdefault(dim.name, (name, dim))
            if known != dim:
                reason = f'"{dim}" has other bounds than "{known}" of inputs.{first}'
                yield Fault(path, reason, f'write "{known}" in both, or give this axis another name')


def _padding(contract: Contract) -> Iterator[Fault]:
    """What is padded is dynamic, and padded in every input that has it, since it is one size in one run."""
    padded: dict[str, str] = {}
    for name, spec in contract.inputs.items():
        if spec.pad is None:
            continue
        dims = _dynamic(spec)
        padded.update(dict.fromkeys(dims, name))
        path: KeyPath = ("inputs", name, "pad")
        if not dims:
            yield Fault(path, f"no size behind the batch is dynamic ({spec.show()})", "remove it, or name the axis")
        elif not _holds_value(spec, spec.pad):
            yield Fault(path, f"{spec.pad:g} is no {spec.dtype}", "write a value that the input can have")
    for name, spec in contract.inputs.items():
        for dim in (found for found in _dynamic(spec) if spec.pad is None and found in padded):
            reason = f'"{dim}" is padded in inputs.{padded[dim]}, and this input has it too'
            yield Fault(("inputs", name), reason, f"write pad here too, or remove it from inputs.{padded[dim]}")


def _dynamic(spec: InputSpec) -> list[str]:
    return [dim.name for dim in spec.shape[1:] if isinstance(dim, Dim)]


def _holds_value(spec: InputSpec, value: float) -> bool:
    with np.errstate(all="ignore"):
        cast = np.array(value).astype(spec.numpy)
    return bool(np.isfinite(cast)) if spec.dtype.startswith("float") else bool(cast == value)


def _images(contract: Contract) -> Iterator[Fault]:
    for name, spec in contract.inputs.items():
        if spec.accept is not None:
            yield from _image(name, spec)


def _image(name: str, spec: InputSpec) -> Iterator[Fault]:
    image = spec.accept
    assert image is not None
    channels = CHANNELS[image.mode]
    gives = (channels, *image.size) if image.layout == "CHW" else (*image.size, channels)
    dims = spec.shape[1:]
    fits = len(dims) == 3 and all(
        dim.holds(size) if isinstance(dim, Dim) else dim == size for dim, size in zip(dims, gives, strict=True)
    )
    if not fits:
        shown = ", ".join(str(dim) if isinstance(dim, int) else f'"{dim}"' for dim in spec.shape)
        reason = f"an image of size {list(image.size)}, mode {image.mode}, layout {image.layout} becomes {list(gives)}"
        wanted = ", ".join(map(str, gives))
        remedy = f'write shape = ["{BATCH}", {wanted}], or another size, mode or layout'
        yield Fault(("inputs", name, "accept"), f"{reason}, and the input's shape is [{shown}]", remedy)
    if not _holds_pixels(spec, image):
        reason = f"pixels that are scaled by {image.scale:g} do not fit dtype {spec.dtype}"
        remedy = 'write scale = 1.0 without mean and std, or dtype = "float32"'
        yield Fault(("inputs", name, "accept"), reason, remedy)


def _holds_pixels(spec: InputSpec, image: ImageAccept) -> bool:
    """Whether the input's dtype has every value that a pixel of 0..255 can become."""
    if spec.dtype.startswith("float"):
        return True
    values = (np.arange(256.0)[:, None] * image.scale - np.array(image.mean)) / np.array(image.std)
    with np.errstate(all="ignore"):
        return spec.dtype != "bool" and bool(np.array_equal(values.astype(spec.numpy), values))


def _encoders(contract: Contract) -> Iterator[Fault]:
    inputs = contract.inputs
    for name, encode in contract.encode.items():
        place: KeyPath = ("encode", name)
        if name in inputs and name not in (encode.feeds or tuple(inputs)):
            yield Fault(place, f'"{name}" is also an input that this does not feed', "give the encoder another name")
        unknown = [fed for fed in encode.feeds or () if fed not in inputs]
        for fed in unknown:
            near = nearest(fed, inputs)
            reason = f'"{fed}" is no input; the inputs are {quoted(inputs, "and")}'
            yield Fault((*place, "feeds"), reason, f'write "{near}"' if near else "")
        if encode.feeds is None and len(inputs) > 1:
            remedy = f'add feeds = ["{next(iter(inputs))}"]'
            yield Fault(place, f"does not say which input it feeds, of {quoted(inputs, 'and')}", remedy)
        elif not unknown and isinstance(encode, RecordEncode):
            yield from _record(place, encode, contract)
        elif not unknown and isinstance(encode, TextEncode):
            yield from _text(place, encode, contract)


def _record(place: KeyPath, encode: RecordEncode, contract: Contract) -> Iterator[Fault]:
    name = encode.feeds[0] if encode.feeds else next(iter(contract.inputs))
    spec, count = contract.inputs[name], len(encode.fields)
    if len(spec.shape) > 1 and isinstance(spec.shape[-1], int) and spec.shape[-1] != count:
        reason = f'{count} fields, and input "{name}" takes {spec.shape[-1]} numbers ({spec.show()})'
        yield Fault((*place, "fields"), reason, "name every number once, in the model's order")
    elif len(spec.shape) < 2 or spec.shape[-1] != count or set(spec.shape[1:-1]) - {1}:
        reason = f'a record becomes [batch, {count}], and input "{name}" is {spec.show()}'
        yield Fault((*place, "fields"), reason, f'write shape = ["{BATCH}", {count}] for the input')


def _text(place: KeyPath, encode: TextEncode, contract: Contract) -> Iterator[Fault]:
    first = contract.inputs[encode.feeds[0]]
    for name in encode.feeds:
        spec = contract.inputs[name]
        if not spec.dtype.startswith("int") or len(spec.shape) != 2:
            reason = f'tokens are integers [batch, tokens], and input "{name}" is {spec.show()}'
            remedy = f'write dtype = "int64" and shape = ["{BATCH}", "tokens"] for the input'
            yield Fault((*place, "feeds"), reason, remedy)
        elif len(first.shape) == 2 and spec.shape[1] != first.shape[1]:
            reason = f'one text has one length, and "{encode.feeds[0]}" is {first.show()}, "{name}" {spec.show()}'
            yield Fault((*place, "feeds"), reason, f'write "{first.shape[1]}" in both')
    if encode.max_length is not None and len(first.shape) == 2:
        tokens = first.shape[1]
        most = tokens.max if isinstance(tokens, Dim) else tokens
        if most is not None and encode.max_length > most:
            reason = f'{encode.max_length} is more than input "{encode.feeds[0]}" takes ({first.show()})'
            yield Fault((*place, "max_length"), reason, f"write {most} or less")


def _task(contract: Contract) -> Iterator[Fault]:
    kind, labels = contract.task.kind, contract.task.labels
    if labels is None:
        return
    place: KeyPath = ("task", "labels")
    if kind not in ("classification", "multilabel"):
        yield Fault(place, f'a task of kind "{kind}" has no classes', 'write kind = "classification", or remove labels')
        return
    least = 2 if kind == "classification" else 1
    if len(labels) < least:
        yield Fault(place, f"expected at least {least} labels, got {len(labels)}", "name every class")
    scored = contract.outputs.get(contract.scored or "")
    classes = scored.shape[-1] if scored is not None and len(scored.shape) > 1 else None
    binary = kind == "classification" and classes == 1 and len(labels) == 2
    if isinstance(classes, int) and classes != len(labels) and not binary:
        reason = f'{len(labels)} labels, and output "{contract.scored}" has {classes} scores'
        yield Fault(place, reason, "name every class once, in the order of the scores")


def _limits(contract: Contract) -> Iterator[Fault]:
    limits, task = contract.limits, contract.task
    if limits.confidence is not None and limits.max_metric_drop is None:
        reason = "says how sure the proof of max_metric_drop must be, and max_metric_drop is not given"
        yield Fault(("limits", "confidence"), reason, "add max_metric_drop, or remove confidence")
    if limits.max_metric_drop is not None and contract.data.metric is None and task.kind not in DEFAULT_METRIC:
        reason = f'a task of kind "{task.kind}" has no metric of its own'
        remedy = f'add data.metric = "module:callable", or write task.kind = {quoted(DEFAULT_METRIC)}'
        yield Fault(("limits", "max_metric_drop"), reason, remedy)


def _search(contract: Contract) -> Iterator[Fault]:
    search, kind = contract.search, contract.task.kind
    if "accuracy-aware" in search.quantize and contract.limits.max_metric_drop is None:
        reason = '"accuracy-aware" keeps a limit of the metric, and limits.max_metric_drop is not given'
        yield Fault(("search", "quantize"), reason, 'add it, or write "static"')
    if "qat" in search.quantize and search.train_step is None and kind not in ("classification", "regression"):
        reason = f'"qat" trains the model, and a task of kind "{kind}" has no loss of its own'
        yield Fault(("search", "quantize"), reason, 'add train_step = "module:callable"')
    gives = ("int8",) if contract.target.device == "cpu" else ("int8", "fp8")
    if search.quantize and not set(gives) & set(search.precisions):
        reason = f"quantization gives {' or '.join(gives)}, which is not among the precisions"
        yield Fault(("search", "quantize"), reason, 'add "int8" to search.precisions')


CUDA_ENGINES = ("torch", "torchscript", "aoti")
"""Engines that run on a GPU here: the builds of the others that this project installs are for the CPU."""
_ON_GPUS = ("fp16", "fp8")
"""Precisions that no engine of this project computes in on a CPU."""


def _device(contract: Contract) -> Iterator[Fault]:
    search = contract.search
    if contract.target.device == "cpu":
        for precision in (found for found in search.precisions if found in _ON_GPUS):
            remedy = f'write "{"bf16" if precision == "fp16" else "int8"}", or target.device = "cuda"'
            yield Fault(("search", "precisions"), f'"{precision}" needs target.device = "cuda"', remedy)
        return
    if contract.model is not None and contract.model.lower().endswith(".onnx"):
        reason = '"cuda" is for models of torch, and no engine here runs an .onnx file on a GPU'
        yield Fault(("target", "device"), reason, 'write "cpu", or name the model by its code')
    for engine in (found for found in search.engines or () if found not in CUDA_ENGINES):
        reason = f'"{engine}" runs on the CPU only, and target.device is "cuda"'
        yield Fault(("search", "engines"), reason, f'take of {quoted(CUDA_ENGINES[1:])}, or target.device = "cpu"')
    for way in (found for found in search.quantize if found != "dynamic"):
        reason = f'"{way}" is for graphs that run on the CPU, and target.device is "cuda"'
        yield Fault(("search", "quantize"), reason, 'write quantize = ["dynamic"]')


def _repeats(contract: Contract) -> Iterator[Fault]:
    search = contract.search
    lists: list[tuple[KeyPath, Iterable[object] | None]] = [
        (("task", "labels"), contract.task.labels),
        (("search", "precisions"), search.precisions),
        (("search", "engines"), search.engines),
        (("search", "quantize"), search.quantize),
        (("search", "prune"), search.prune),
        (("search", "sparsify"), search.sparsify),
    ]
    for name, encode in contract.encode.items():
        lists.append((("encode", name, "feeds"), encode.feeds))
        if isinstance(encode, RecordEncode):
            lists.append((("encode", name, "fields"), encode.fields))
    for path, values in lists:
        for value, count in Counter(values or ()).items():
            if count > 1:
                shown = f'"{value}"' if isinstance(value, str) else str(value)
                yield Fault(path, f"{shown} stands {count} times", "write it once")
