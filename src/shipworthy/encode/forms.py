"""The forms in which a field of an instance may be sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ..contract import Array, Contract, RecordEncode
from .images import ImageCodec
from .records import RecordCodec
from .tensors import TensorCodec
from .text import TextCodec


class Form(Protocol):
    """One way to send a field: which values it takes, which inputs it feeds, and how."""

    feeds: tuple[str, ...]

    def takes(self, value: object) -> bool: ...

    def encode(self, value: Any) -> dict[str, Array]:
        """Arrays by input name, without the batch axis, of a value that this form takes; or FieldError."""
        ...


Forms: TypeAlias = dict[str, tuple[Form, ...]]
"""By field name; the first form that takes a value encodes it."""


def forms_of(contract: Contract, assets: Path) -> Forms:
    """Every field that a caller may send."""
    forms: Forms = {}
    for name, spec in contract.inputs.items():
        images: tuple[Form, ...] = (ImageCodec(name, spec.accept, spec),) if spec.accept is not None else ()
        forms[name] = (*images, TensorCodec(name, spec))
    for name, encode in contract.encode.items():
        form: Form
        if isinstance(encode, RecordEncode):
            fed = (encode.feeds or tuple(contract.inputs))[0]
            form = RecordCodec(encode, fed, contract.inputs[fed])
        else:
            form = TextCodec(name, encode, contract.inputs, assets / encode.tokenizer)
        forms[name] = (form, *forms.get(name, ()))
    return forms
