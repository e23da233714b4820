"""The served model is asked over HTTP, and the same package in this process."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..contract import Array
from ..errors import MissingExtra, ServeError
from ..predict import Answer, Predictor

if TYPE_CHECKING:
    import httpx

PIXELS = 16
"""Grey values of the digits: 0..16."""
AS_PICTURES = 100
"""So many are sent as pictures, one by one; the rest as numbers, many in a request."""
TOGETHER = 64


@dataclass(frozen=True, slots=True)
class Classes:
    """Predicted classes [n], in the order of the images."""

    values: tuple[int, ...]

    def accuracy(self, labels: Array) -> float:
        return sum(int(a == b) for a, b in zip(self.values, labels, strict=True)) / len(labels)


def png(image: Array) -> bytes:
    """A tensor [1, 8, 8] of 0..1 as a grey picture; the pixels are whole numbers, so that nothing is lost."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("the demo", "PIL", "images") from None
    buffer = io.BytesIO()
    Image.fromarray((image[0] * PIXELS).round().astype("uint8")).save(buffer, format="PNG")
    return buffer.getvalue()


def ask_http(client: httpx.Client, images: Array) -> Classes:
    """Classes of images [n, 1, 8, 8]: the first as pictures, one by one, the rest as numbers, many at once."""
    kind = {"content-type": "image/png"}
    pictures = (client.post("/predict", content=png(image), headers=kind) for image in images[:AS_PICTURES])
    found = [_answer(picture)["predicted_class"] for picture in pictures]
    for start in range(AS_PICTURES, len(images), TOGETHER):
        found += ask_numbers(client, images[start : start + TOGETHER])
    return Classes(tuple(found))


def ask_numbers(client: httpx.Client, images: Array) -> list[int]:
    """Classes of images [n, 1, 8, 8], which are sent as numbers in one request."""
    body = {"instances": [{"image": image.tolist()} for image in images]}
    return [one["predicted_class"] for one in _answer(client.post("/predict", json=body))["predictions"]]


def ask_predictor(predictor: Predictor, images: Array) -> Classes:
    """The same questions in the same form, without HTTP."""
    found = [predictor.predict_image(png(image))["predicted_class"] for image in images[:AS_PICTURES]]
    for start in range(AS_PICTURES, len(images), TOGETHER):
        many = predictor.predict([{"image": image} for image in images[start : start + TOGETHER]])["predictions"]
        found += [one["predicted_class"] for one in many]
    return Classes(tuple(found))


def _answer(response: httpx.Response) -> Answer:
    if response.status_code != 200:
        raise ServeError("the demo's server", f"answered {response.status_code}: {response.text[:200]}")
    answer: Answer = response.json()
    return answer
