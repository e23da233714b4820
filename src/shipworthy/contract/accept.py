"""What clients may send instead of tensors: images, texts, records of named numbers."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from .tensors import Count, Finite, Positive, Strict

CHANNELS = {"L": 1, "RGB": 3}
"""Channels of each image mode."""


class ImageAccept(Strict):
    """An image that clients may send instead of a tensor, and how it becomes one."""

    kind: Literal["image"]
    """What is accepted: an encoded image (PNG, JPEG, ...)."""
    size: tuple[Count, Count]
    """Height and width of the tensor, in pixels."""
    mode: Literal["L", "RGB"] = "RGB"
    """What the decoded image is converted to: grey or colour."""
    resize: Literal["stretch", "shorter", "exact"] = "stretch"
    """`stretch` to `size`; `shorter` side to `size` before `crop`; `exact` refuses another size."""
    crop: Literal["center"] | None = None
    """Cut the middle after a `shorter` resize."""
    scale: Positive = 1 / 255
    """Factor on the 0..255 pixel values, before mean and std."""
    mean: tuple[Finite, ...] = (0.0,)
    """Per channel, or one value for all: (scaled - mean) / std."""
    std: tuple[Positive, ...] = (1.0,)
    """Per channel, or one value for all: (scaled - mean) / std."""
    layout: Literal["CHW", "HWC"] = "CHW"
    """Order of the tensor's axes behind the batch: channels first or last."""

    @model_validator(mode="after")
    def _channels(self) -> ImageAccept:
        channels = CHANNELS[self.mode]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                takes = "1" if channels == 1 else f"1 or {channels}"
                raise ValueError(f"{name} has {len(values)} values, and mode {self.mode!r} takes {takes}")
        if (self.crop is not None) != (self.resize == "shorter"):
            raise ValueError('crop = "center" and resize = "shorter" go together')
        return self


class TextEncode(Strict):
    """A text that clients may send; a `tokenizers` file turns it into the model's integer inputs."""

    kind: Literal["text"]
    """What is accepted: a string."""
    tokenizer: str
    """Path of a tokenizer.json, relative to the contract."""
    feeds: tuple[str, ...] = Field(default=("input_ids",), min_length=1, max_length=3)
    """Inputs that are fed, of: token ids, attention mask, type ids (in this order)."""
    max_length: Count | None = None
    """Longer texts are truncated to this many tokens."""


class RecordEncode(Strict):
    """A record of named numbers that clients may send; the fields become the last axis of one input."""

    kind: Literal["record"]
    """What is accepted: an object of named numbers."""
    fields: tuple[str, ...] = Field(min_length=1)
    """Names of the fields, in the order in which the model takes them."""
    feeds: Annotated[tuple[str, ...], Field(min_length=1, max_length=1)] | None = None
    """The input that is fed; the only one where there is one."""


Accept: TypeAlias = ImageAccept
Encode: TypeAlias = Annotated[TextEncode | RecordEncode, Field(discriminator="kind")]
