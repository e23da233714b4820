"""The way of a request that was read, the same for HTTP and gRPC: rows to the lane, outputs back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...contract import Array, Arrays
from .feeds import check_rows, direct, encoded, has_pixels, joined
from .outputs import Output, check_asked, outputs_of
from .request import InferRequest

if TYPE_CHECKING:
    from ..lane import Lane
from ..place import Place
from ..replies import together

INLINE_PIXELS = 2**19
"""More pixels become the model's numbers beside the event loop; these take a millisecond."""
INLINE_SCORES = 2**14
"""More scores are ranked beside the event loop."""


@dataclass(slots=True)
class Inferred:
    """The tensors of an answer, and how long its rows waited and ran, in seconds."""

    outputs: list[Output]
    queue_s: float
    compute_s: float
    batch: int


class _Ran(Protocol):
    queue_s: float
    compute_s: float
    batch: int

    @property
    def outputs(self) -> Arrays: ...


async def run(lane: Lane, place: Place, request: InferRequest) -> Inferred:
    """Answer a request within its own timeout. Raises ProblemError and InputError where it does not fit the model,
    TimeoutError, and what the lane raises."""
    contract = lane.predictor.contract
    check_asked(request.asked, contract)
    check_rows(request.tensors, lane.settings.max_instances)
    if request.timeout_s is not None:
        place.within(request.timeout_s)
    async with within(request.timeout_s):
        feeds = await _feeds(lane, request)
        if feeds is not None:
            ran = await place.run(feeds)
            return Inferred(await _answered(lane, request, ran.outputs), ran.queue_s, ran.compute_s, ran.batch)
        groups = await lane.beside(lambda: encoded(request.tensors, lane.predictor))
        # Files of images are small, and what waits is what they have become.
        place.weigh(sum(array.nbytes for _, arrays in groups for array in arrays.values()))
        done: Sequence[_Ran] = await place.run_all([arrays for _, arrays in groups])
    outputs, spent = joined(groups, [one.outputs for one in done]), together(done)
    return Inferred(await _answered(lane, request, outputs), spent.queue_s, spent.compute_s, spent.batch)


async def _feeds(lane: Lane, request: InferRequest) -> dict[str, Array] | None:
    tensors, predictor = request.tensors, lane.predictor
    pixels = sum(one.array.size for one in tensors if has_pixels(one, predictor.contract))
    if pixels > INLINE_PIXELS:
        return await lane.beside(lambda: direct(tensors, predictor))
    return direct(tensors, predictor)


async def _answered(lane: Lane, request: InferRequest, outputs: Arrays) -> list[Output]:
    contract = lane.predictor.contract
    scores = sum(outputs[one.name].size for one in request.asked or () if one.classes)
    if scores > INLINE_SCORES:
        return await lane.beside(lambda: outputs_of(request, outputs, contract))
    return outputs_of(request, outputs, contract)


def within(timeout_s: float | None) -> AbstractAsyncContextManager[object]:
    """Raises TimeoutError when so many seconds are over; None costs nothing."""
    return nullcontext() if timeout_s is None else asyncio.timeout(timeout_s)
