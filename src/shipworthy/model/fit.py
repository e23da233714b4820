"""Put a state_dict into a module, or say precisely why it does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from .mend import Mend, find_mend

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was done to the keys on the way in."""

    mended: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def fit_weights(module: torch.nn.Module, state: Mapping[str, Tensor], source: str, *, mend: bool) -> Fitted:
    """Load `state` into `module`, every key and shape of it. `source` names the file in errors.

    Raises WeightsError: for a known prefix it names the mend, which `mend` applies; else the missing, unexpected and
    wrongly shaped keys."""
    try:
        _load(module, state)
    except RuntimeError as exc:
        found = find_mend(list(state), list(module.state_dict()))
        if found is None:
            raise _misfit(module, state, source, str(exc)) from exc
        if not mend:
            raise _mendable(found, source) from exc
        return _load_mended(module, state, found, source)
    return Fitted(notes=_casts(module, state))


def _load(module: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Parameters made on the meta device have no storage to copy into; they take the file's tensors themselves."""
    on_meta = any(p.is_meta for p in (*module.parameters(), *module.buffers()))
    module.load_state_dict(dict(state), strict=True, assign=on_meta)


def _load_mended(module: torch.nn.Module, state: Mapping[str, Tensor], mend: Mend, source: str) -> Fitted:
    renamed = {new: state[old] for old, new in mend.renamed.items()}
    try:
        _load(module, renamed)
    except RuntimeError as exc:
        raise _misfit(module, renamed, source, str(exc)) from exc
    left = f"left out {len(mend.left_out)} keys without the prefix: {_first(mend.left_out)}"
    return Fitted(mend.prefixes, (*_casts(module, renamed), *((left,) if mend.left_out else ())))


def _casts(module: torch.nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    own = module.state_dict()
    casts = {
        f"weights stored as {_dtype(value)} were cast to {_dtype(own[name])}"
        for name, value in state.items()
        if _has_dtype(value) and _has_dtype(own.get(name)) and value.dtype != own[name].dtype
    }
    return tuple(sorted(casts))


def _has_dtype(value: object) -> bool:
    return hasattr(value, "dtype")


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _mendable(mend: Mend, source: str) -> WeightsError:
    prefixes = ", ".join(repr(prefix) for prefix in mend.prefixes)
    left = f" ({len(mend.left_out)} other keys would be left out: {_first(mend.left_out)})" if mend.left_out else ""
    plural = "prefix" if len(mend.prefixes) == 1 else "prefixes"
    return WeightsError(
        source,
        f"{mend.count} of {len(mend.renamed) + len(mend.left_out)} keys carry the {plural} {prefixes}; "
        f"without, they fit the module exactly{left}",
        "take it off with mend=True in Python, or --mend on the command line",
    )


def _misfit(module: torch.nn.Module, state: Mapping[str, Tensor], source: str, raised: str) -> WeightsError:
    own: dict[str, Any] = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} is {list(value.shape)} in the file and {list(own[name].shape)} in the module"
        for name, value in state.items()
        if name in own and _shape(value) is not None and _shape(own[name]) not in (None, _shape(value))
    ]
    reasons = []
    if missing:
        reasons.append(f"{len(missing)} keys of the module are missing: {_first(missing)}")
    if unexpected:
        reasons.append(f"{len(unexpected)} keys have no place in the module: {_first(unexpected)}")
    if shapes:
        reasons.append(f"{len(shapes)} shapes differ: {_first(shapes)}")
    return WeightsError(
        source,
        "; ".join(reasons) or " ".join(raised.split()),
        _advice(missing, unexpected, shapes),
    )


def _shape(value: object) -> tuple[int, ...] | None:
    """None for what has no shape yet: a lazy layer's parameter, or a module's extra state."""
    try:
        return tuple(value.shape)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        return None


def _advice(missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str]) -> str:
    added = _common_prefix(missing, unexpected)
    if added:
        return f"the module's keys begin with {added!r} and the file's do not; load the weights into the inner module"
    for name in unexpected:
        near = get_close_matches(name, missing, n=1)
        if near:
            return f"{name!r} in the file looks like {near[0]!r} in the module; build the module as it was trained"
    if shapes and not missing and not unexpected:
        return "build the module with the sizes that it was trained with"
    return "check that the weights are of this module, in the version that it was trained with"


def _common_prefix(missing: Sequence[str], unexpected: Sequence[str]) -> str | None:
    if not missing or not unexpected:
        return None
    head = missing[0].split(".")[0] + "."
    return head if {name.removeprefix(head) for name in missing} == set(unexpected) else None


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
