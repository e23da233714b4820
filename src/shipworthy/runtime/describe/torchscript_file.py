"""TorchScript: its code and its graph. Loading deserialises the module; no method of it is called."""

from __future__ import annotations

import warnings
from pathlib import Path

from ...errors import EngineError
from ..guarded import first_line
from ..torch_tensors import need_torch
from .description import SIGNATURE_KEY, Description, stored_signature


def describe_torchscript(path: Path) -> Description:
    torch = need_torch("torchscript")
    extra = {SIGNATURE_KEY: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    except RuntimeError as error:
        raise EngineError(str(path), f"cannot be loaded: {first_line(error)}", "write it again") from error
    text = extra[SIGNATURE_KEY]
    signature = stored_signature(text.decode() if isinstance(text, bytes) else text, path)
    notes = () if signature else ("TorchScript stores neither dtypes nor shapes, and this file says none itself",)
    return Description(signature, "TorchScript", f"{module.code}\n{module.inlined_graph}", notes)
