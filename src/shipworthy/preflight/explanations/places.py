"""Devices and memory."""

from __future__ import annotations

from re import Match

from .explanation import Case, case, fixed

_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "bytes": 1}

_SMALLER = (
    "use a smaller batch, or lower precision; run inference under torch.inference_mode(), which keeps no activations"
)


def _bytes(number: str, unit: str = "bytes") -> str:
    count = float(number) * _UNITS[unit]
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def _two_devices(match: Match[str]) -> tuple[str, str]:
    first, second = match["first"], match["second"]
    return (
        f"tensors of one operation are on two devices: {first} and {second}",
        f"move them together, model.to({first!r}) and x.to({first!r}); a tensor that the model keeps as a plain "
        "attribute does not move with it: register it with register_buffer",
    )


def _cuda_memory(match: Match[str]) -> tuple[str, str]:
    tried = _bytes(match["tried"], match["unit"])
    rest = match["rest"] or ""
    return f"the GPU has no room for {tried} more{_capacity(rest)}", _SMALLER


def _capacity(text: str) -> str:
    import re

    total = re.search(r"total capacity of ([\d.]+) (\w+)", text)
    free = re.search(r"of which ([\d.]+) (\w+) is free", text) or re.search(r"([\d.]+) (\w+) free", text)
    parts = []
    if total:
        parts.append(f"of {_bytes(*total.groups())}")
    if free:
        parts.append(f"{_bytes(*free.groups())} is free")
    return f" ({', '.join(parts)})" if parts else ""


def _cpu_memory(match: Match[str]) -> tuple[str, str]:
    return f"the machine's memory has no room for {_bytes(match['tried'], match['unit'])} more", _SMALLER


_NO_CUDA = fixed(
    "the code asks for a CUDA device, and this torch or this machine has none",
    'take the device from the input (x.device) or choose it: "cuda" if torch.cuda.is_available() else "cpu"',
)

CASES: tuple[Case, ...] = (
    case(
        "device",
        r"Attempting to deserialize object on a? ?(?P<device>\w+) device",
        lambda m: (
            f"the file was saved from a {m['device']} device, which this machine has not",
            "torch.load(path, map_location='cpu', weights_only=True)",
        ),
    ),
    case(
        "device",
        r"at least two devices, (?P<first>[\w:]+) and (?P<second>[\w:]+)",
        _two_devices,
    ),
    case(
        "device", r"Tensor on device (?P<first>[\w:]+) is not on the expected device (?P<second>[\w:]+)", _two_devices
    ),
    case(
        "device",
        r"Input type \(torch\.(?P<first>cuda)\.?\w*\) and weight type \(torch\.(?P<second>\w+)\)",
        lambda m: (
            "the input is on the GPU, the weights are on the CPU",
            'move the model too: model.to("cuda"), or the input back: x.cpu()',
        ),
    ),
    case(
        "device",
        r"Cannot copy out of meta tensor",
        fixed(
            "a tensor is on the meta device: it has a shape but no values",
            "build the model on the CPU, or fill it with model.to_empty(device='cpu') and load_state_dict",
        ),
    ),
    case("device", r"Torch not compiled with CUDA|Found no NVIDIA driver|No CUDA GPUs are available", _NO_CUDA),
    case(
        "device",
        r"not linked with support for (?P<device>\w+) devices|(?P<other>MPS|XPU) .*not available",
        lambda m: (
            f"the code asks for a {m['device'] or m['other']} device, which this torch does not have",
            "take the device from the input (x.device), or use the CPU",
        ),
    ),
    case(
        "device",
        r"can't convert (?P<device>[\w:]+) device type tensor to numpy",
        lambda m: (f"NumPy cannot read a tensor on {m['device']}", "copy it to the CPU first: x.cpu().numpy()"),
    ),
    case("memory", r"out of memory\. Tried to allocate (?P<tried>[\d.]+) (?P<unit>\w+)(?P<rest>.*)", _cuda_memory),
    case("memory", r"CUDA (?:error: )?out of memory", fixed("the GPU's memory is full", _SMALLER)),
    case("memory", r"you tried to allocate (?P<tried>\d+) (?P<unit>bytes)", _cpu_memory),
    case("memory", r"Unable to allocate (?P<tried>[\d.]+) (?P<unit>\w+) for an array", _cpu_memory),
)
