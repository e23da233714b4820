"""What a caller sends of an instance, to the arrays that the graph takes; the same at build time and when serving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Array, Contract, Dim, InputSpec
from ..errors import ContractError, InputError, MissingExtra, Problem
from .faults import MAX_UNKNOWN, FieldError, brief, kind
from .forms import Forms, forms_of
from .images import ImageCodec
from .rows import Rows
from .text import TextCodec


class Codec:
    """Encodes instances for the inputs of a contract. Safe to use from several threads.

    An instance is an object. Its fields are the names of the inputs, for tensors and for images where these are
    accepted, and the names under `encode`, for texts and records. Every input must be fed by exactly one field.
    A numpy array may stand for the whole instance where the model has one input."""

    def __init__(self, contract: Contract, assets: Path | None = None) -> None:
        """`assets` is the folder that the files of `encode` are relative to: the contract's own, or a package's."""
        self._inputs = contract.inputs
        self._forms = forms_of(contract, contract.root if assets is None else assets)
        self._images = {
            form.feeds[0]: form for forms in self._forms.values() for form in forms if isinstance(form, ImageCodec)
        }
        self.accepts_image: str | None = next(iter(self._images), None) if len(self._inputs) == 1 else None
        """The input that a bare image feeds; None where it accepts none, or where the model has others too."""
        self.pixel_inputs = tuple(name for name in self._images if self._inputs[name].dtype != "uint8")
        """The inputs that `pixels` makes. Where one is uint8 itself, such an array is the tensor."""
        self.rows = Rows.of(contract)
        """Reads plain instances of many requests at once; None where the contract's inputs are not that simple."""
        self.notes: tuple[str, ...] = ()
        """What callers cannot send here, and why; known when the codec is open."""

    def open(self) -> None:
        """Load what the encoders need, which they otherwise do when they are first asked.

        An optional library that is missing goes into `notes`, because every input can be sent as a tensor too.
        Raises ContractError where a tokenizer file is missing or unreadable."""
        notes = []
        for name, forms in self._forms.items():
            for form in forms:
                if isinstance(form, TextCodec | ImageCodec):
                    try:
                        form.open()
                    except MissingExtra as missing:
                        notes.append(
                            f"{name!r} is taken as a tensor only: {missing}"
                            if name in self._inputs
                            else f"{name!r} is not taken: {missing}"
                        )
        self.notes = tuple(notes)

    def of_field(self, name: str) -> Codec:
        """One for this field alone and for the inputs that it feeds: what feeds the others may come from elsewhere."""
        part = copy(self)
        part._forms = {name: self._forms[name]}
        part._inputs = {fed: self._inputs[fed] for fed in self._forms[name][0].feeds}
        part.rows = None
        return part

    @property
    def fields(self) -> tuple[str, ...]:
        """The names that an instance may have."""
        return tuple(self._forms)

    def instance(self, value: object, index: int = 0) -> dict[str, Array]:
        """The arrays of one instance by input name, without the batch axis. InputError names every fault."""
        reading = self._read(value, index)
        if reading.problems:
            raise InputError(reading.problems)
        return reading.arrays

    def instances(self, values: Sequence[object]) -> list[dict[str, Array]]:
        """The arrays of each instance. InputError names every fault of every instance."""
        readings = [self._read(value, index) for index, value in enumerate(values)]
        problems = [problem for reading in readings for problem in reading.problems]
        if problems:
            raise InputError(problems)
        return [reading.arrays for reading in readings]

    def unfolded(self, values: Iterable[object]) -> int:
        """Bytes of the arrays that the images of these instances become. Nothing of them is read."""
        return sum(form.nbytes for form, _ in self._files(values))

    def claimed(self, values: Iterable[object]) -> int:
        """Pixels that the files among these instances say they have. None of them is decoded."""
        return sum(form.claimed(file) for form, file in self._files(values))

    def _files(self, values: Iterable[object]) -> Iterator[tuple[ImageCodec, Any]]:
        for value in values:
            if isinstance(value, Mapping):
                for name, form in self._images.items():
                    if form.takes(file := value.get(name)):
                        yield form, file

    def image(self, name: str, data: bytes) -> Array:
        """The array of input `name`, without the batch axis, from the bytes of a PNG or JPEG file.

        InputError where they are no such file, ContractError where the input accepts no image."""
        images = self._image_codec(name)
        try:
            return images.decode(data)
        except FieldError as error:
            raise InputError([Problem(0, name + at, reason) for at, reason in error.faults]) from error

    def pixels(self, name: str, array: Array) -> Array:
        """The array of input `name` from decoded pixels: uint8 [n, ...] of the input's own shape and layout, in the
        colours of `accept.mode`. The numbers are those of a lossless file with these pixels.

        InputError where they do not have the shape, ContractError where the input accepts no image."""
        images = self._image_codec(name)
        try:
            return images.pixels(array)
        except FieldError as error:
            raise InputError([Problem(0, name + at, reason) for at, reason in error.faults]) from error

    def _image_codec(self, name: str) -> ImageCodec:
        if name not in self._images:
            raise ContractError(
                f"inputs.{name}.accept",
                "is not given, so no image becomes this input",
                'write accept = { kind = "image", ... }',
            )
        return self._images[name]

    def _read(self, value: object, index: int) -> _Reading:
        if isinstance(value, np.ndarray) and len(self._inputs) == 1:
            value = {next(iter(self._inputs)): value}
        reading = _Reading(index, self._forms)
        if isinstance(value, Mapping):
            reading.read(value, self._inputs)
        else:
            reading.refuse("instance", f"expected an object with {_words(self._forms)}, got {kind(value)}")
        return reading


class _Reading:
    """The arrays and the problems of one instance."""

    def __init__(self, index: int, forms: Forms) -> None:
        self.arrays: dict[str, Array] = {}
        self.problems: list[Problem] = []
        self._index, self._forms = index, forms

    def refuse(self, field: str, reason: str) -> None:
        self.problems.append(Problem(self._index, field, reason))

    def read(self, fields: Mapping[Any, object], inputs: Mapping[str, InputSpec]) -> None:
        fed_by: dict[str, str] = {}
        for name in self._forms:
            if name in fields:
                self._take(name, fields[name], fed_by)
        self._unknown([str(name) for name in fields if name not in self._forms])
        for name, spec in inputs.items():
            if name not in fed_by:
                self.refuse(
                    name, f"missing; expected {spec.dtype} [{', '.join(map(str, spec.shape[1:]))}]{self._instead(name)}"
                )
        self.arrays = {name: self.arrays[name] for name in inputs if name in self.arrays}
        self._agree(inputs)

    def _take(self, name: str, value: object, fed_by: dict[str, str]) -> None:
        forms = self._forms[name]
        form = next((form for form in forms if form.takes(value)), None)
        for fed in (form or forms[-1]).feeds:
            if fed_by.setdefault(fed, name) != name:
                self.refuse(name, f"feeds {fed!r}, which {fed_by[fed]!r} feeds too; send one of them")
        if form is None:
            self.refuse(name, f"cannot be {kind(value)}")
            return
        try:
            self.arrays.update(form.encode(value))
        except FieldError as error:
            for at, reason in error.faults:
                self.refuse(name + at, reason)

    def _unknown(self, names: list[str]) -> None:
        for name in names[:MAX_UNKNOWN]:
            self.refuse(brief(name)[1:-1], f"unknown field; the fields are {_words(self._forms)}")
        if len(names) > MAX_UNKNOWN:
            self.refuse("instance", f"{len(names) - MAX_UNKNOWN} more unknown fields")

    def _instead(self, name: str) -> str:
        """The other fields that would have fed an input."""
        others = [field for field, forms in self._forms.items() if field != name and name in forms[0].feeds]
        return f", or {_words(others)}" if others else ""

    def _agree(self, inputs: Mapping[str, InputSpec]) -> None:
        """A dimension that several inputs name has one size."""
        sizes: dict[str, tuple[int, str]] = {}
        for name, array in self.arrays.items():
            for size, dim in zip(array.shape, inputs[name].shape[1:], strict=True):
                if isinstance(dim, Dim) and sizes.setdefault(dim.name, (size, name))[0] != size:
                    other, first = sizes[dim.name]
                    self.refuse(name, f"{dim.name} is {size} here and {other} in {first!r}")


def _words(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
