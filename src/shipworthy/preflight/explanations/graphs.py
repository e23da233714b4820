"""torch.export, TorchScript and ONNX exporters."""

from __future__ import annotations

import re
from re import Match

from .explanation import Case, case

_CALL = re.compile(
    r'The following call raised this error:\s*File "(?P<file>[^"]+)", line (?P<line>\d+).*?\n\s*(?P<code>[^\n]+)',
    re.DOTALL,
)


def _data_dependent(match: Match[str]) -> tuple[str, str]:
    found = _CALL.search(match.string)
    where = f": {found['code'].strip()}" if found else ""
    return (
        f"what is computed next depends on the values of a tensor, which an exported graph cannot follow{where}",
        "choose between results with torch.where, or branch with torch.cond; TorchScript by scripting keeps an if",
    )


def _specialised(match: Match[str]) -> tuple[str, str]:
    fixed = re.findall(
        r"You marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)", match.string
    )
    if fixed:
        names = ", ".join(f"{name} to {size}" for name, size in fixed)
        return (
            f"the model fixes a dimension that the contract calls dynamic ({names})",
            "take sizes from the input (x.shape[0], x.flatten(1)), and loop over no dimension in Python",
        )
    suggested = re.search(r"Suggested fixes:\s*\n((?:[ \t]+\w+ = [^\n]*\n?)+)", match.string)
    fixes = "; ".join(line.strip() for line in suggested[1].strip().splitlines()) if suggested else match["names"]
    return (
        f"the model bounds or ties a dimension that the contract leaves free: {fixes}",
        'state the bounds in the contract, as "name:min..max", and give dimensions that are equal one name',
    )


def _no_onnx(match: Match[str]) -> tuple[str, str]:
    op = match["op"].removeprefix("aten.").removeprefix("aten::")
    return (
        f"ONNX has no operator for {op}",
        "compute it by other operators, move it out of the model, or use an engine of PyTorch's own "
        "(torchscript, aoti)",
    )


def _no_kernel(match: Match[str]) -> tuple[str, str]:
    return (
        f"this ONNX Runtime, or this ONNX, has no operator {match['op']}",
        "export with an opset that has it, or install a version that does; operators of your own need their library "
        "registered with SessionOptions",
    )


def _script(match: Match[str]) -> tuple[str, str]:
    return (
        f"TorchScript does not know this part of Python: {match['what'].strip()}",
        "write it with tensors, lists and loops, or let the model be traced or exported instead",
    )


CASES: tuple[Case, ...] = (
    case(
        "branch", r"Could not (?:guard on|extract specialized integer from) data-dependent expression", _data_dependent
    ),
    case("branch", r"[Dd]ata-dependent (?:branching|jump|operator)|DynamicOutputShape", _data_dependent),
    case("size", r"Constraints violated \((?P<names>[^)]*)\)", _specialised),
    case("export", r"No ONNX function found for <OpOverload\(op='(?P<op>[\w.]+)'", _no_onnx),
    case("export", r"Exporting the operator '(?P<op>[\w:]+)' to ONNX", _no_onnx),
    case("export", r"(?:No Op registered for|[Cc]ould not find an implementation for) (?P<op>\w+)", _no_kernel),
    case("export", r"(?P<op>[\w.]+:\w+)\(-?\d+\) is not a registered function/op", _no_kernel),
    case("export", r"^(?P<what>[^\n]*?) (?:aren't|isn't|not|is not) supported.*<--- HERE", _script),
)
