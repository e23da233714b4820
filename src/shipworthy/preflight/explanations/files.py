"""state_dicts and checkpoints."""

from __future__ import annotations

import re
from re import Match

from ...model.mend import find_mend
from .explanation import Case, case, fixed

_SHOWN = 3


def _keys(match: Match[str]) -> tuple[str, str]:
    text = match.string
    missing, unexpected = _listed(text, "Missing"), _listed(text, "Unexpected")
    shapes = _SHAPE.findall(text)
    mend = find_mend(unexpected, missing) if missing else None
    if mend is not None:
        prefixes = ", ".join(repr(prefix) for prefix in mend.prefixes)
        return (
            f"{mend.count} keys of the state_dict carry the prefix {prefixes}, which a wrapper left there",
            "take it off: {key.removeprefix("
            + repr(mend.prefixes[0])
            + "): value for key, value in state.items()}; with a contract: mend=True, or shipworthy check --mend",
        )
    causes = []
    if missing:
        causes.append(f"{len(missing)} keys are missing ({_first(missing)})")
    if unexpected:
        causes.append(f"{len(unexpected)} keys have no place in the module ({_first(unexpected)})")
    for name, saved, own in shapes[:_SHOWN]:
        causes.append(f"{name} is [{saved}] in the file and [{own}] in the module")
    return (
        "the state_dict is not of this module: " + "; ".join(causes),
        "build the module with the classes and sizes that it was trained with, or load the file that belongs to it",
    )


_SHAPE = re.compile(
    r"size mismatch for ([\w.]+): copying a param with shape torch\.Size\(\[([\d, ]*)\]\) from checkpoint, "
    r"the shape in current model is torch\.Size\(\[([\d, ]*)\]\)"
)


def _listed(text: str, which: str) -> list[str]:
    found = re.search(which + r" key\(s\) in state_dict: (.*?)(?:\.\s*\n|\. *$|\Z)", text, re.DOTALL)
    return re.findall(r'"([^"]+)"', found[1]) if found else []


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _weights_only(match: Match[str]) -> tuple[str, str]:
    found = re.search(r"(?:GLOBAL|global) ([\w.]+)", match.string)
    name = found[1] if found else "a class that is not a tensor"
    return (
        f"the file holds {name}, not only tensors: reading it would execute code, and weights_only=True refuses",
        "where it was written, save the weights alone: torch.save(model.state_dict(), 'weights.pt'); "
        "unpickle (weights_only=False) only a file that you wrote yourself",
    )


CASES: tuple[Case, ...] = (
    case("weights", r"Error\(s\) in loading state_dict", _keys),
    case("pickle", r"Weights only load failed", _weights_only),
    case(
        "weights",
        r"PytorchStreamReader failed (?P<why>[^\n.]*)",
        lambda m: (
            f"the file is damaged or was cut short ({m['why'].strip()})",
            "copy or save it again, and compare its size",
        ),
    ),
    case(
        "pickle",
        r"support the deepcopy protocol",
        fixed(
            "the module keeps a tensor that is the result of a computation, which cannot be copied",
            "keep it with .detach(), or use torch.nn.utils.parametrizations.weight_norm for weight_norm",
        ),
    ),
    case(
        "pickle",
        r"[Cc]an't (?:pickle|get) local object '?(?P<what>[^']*)|cannot pickle '(?P<other>[^']+)'",
        lambda m: (
            f"{m['what'] or m['other']} cannot be pickled",
            "define functions and classes at the top of a module; keep open files, locks and loggers out of attributes",
        ),
    ),
)
