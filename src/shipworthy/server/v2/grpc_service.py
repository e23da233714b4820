"""The methods of the protocol's gRPC service, without a socket: from a request message to a response message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

from ..dispatch import clock
from ..problems import NOT_FOUND, ProblemError
from ..reporting import LEFT
from .datatypes import malformed
from .descriptions import model_config, model_metadata, repository_index, server_metadata, statistics_of
from .errors import as_error
from .grpc_tensors import read_message, write_message
from .inference import run
from .messages import HEALTH, INFERENCE, message
from .request import InferRequest
from .rest import load

if TYPE_CHECKING:
    from ..catalog import Catalog
    from ..head import Head
    from ..lane import Lane
    from ..observe import Route, Trace
    from ..replies import Timed

Answer: TypeAlias = Callable[["Catalog", Any], Awaitable[Any]]

OPEN = frozenset(("ServerLive", "ServerReady", "Check"))
"""What an orchestrator asks without a token."""
MANAGEMENT = frozenset(("RepositoryModelLoad", "RepositoryModelUnload"))
INLINE_TYPED = 16_384
"""A larger message is read, and more numbers than a quarter of it are written, beside the event loop, where they are
in typed fields."""


@dataclass(slots=True)
class Call:
    """A call, or a request of a stream, and what is found out about it."""

    head: Head
    """What its metadata say."""
    trace: Trace | None
    route: Route | None
    """None for a call that does not infer."""
    started: float
    lane: Lane | None = None
    spent: Timed | None = None


async def infer(catalog: Catalog, asked: Any, size: int, timeout_s: float | None, call: Call) -> Any:
    """The ModelInferResponse to a ModelInferRequest of `size` bytes, within `timeout_s` and its own timeout.

    Raises ProblemError, InputError, TimeoutError, and what the lane raises."""
    lane = catalog.lane(asked.model_name, asked.model_version or None)
    experiment = None if asked.model_version else catalog.experiment(lane.model)
    assigned = None if experiment is None else experiment.assign(call.head.headers, named=False)
    lane = call.lane = lane if assigned is None else assigned.lane
    try:
        response = await _infer(lane, asked, size, timeout_s, call)
    except asyncio.CancelledError:
        if assigned is not None:
            assigned.unserved(LEFT, clock() - call.started)
        raise
    except Exception as error:
        status, total_s = as_error(error)[0], clock() - call.started
        lane.metrics.failed(status, "grpc", total_s)
        if assigned is not None:
            assigned.unserved(status, total_s)
        raise
    total_s = clock() - call.started
    lane.metrics.answered("grpc", total_s)
    if assigned is not None:
        assigned.answered(total_s)
    return response


async def _infer(lane: Lane, asked: Any, size: int, timeout_s: float | None, call: Call) -> Any:
    with lane.admit(size, timeout_s) as place:
        request = await _read(lane, asked, size)
        call.spent = inferred = await run(lane, place, request)

    def write() -> Any:
        return write_message(lane.model, lane.version, request, inferred)

    heavy = not request.binary and sum(output.array.size for output in inferred.outputs) > INLINE_TYPED // 4
    return await lane.beside(write) if heavy else write()


async def _read(lane: Lane, asked: Any, size: int) -> InferRequest:
    most = lane.settings.max_instances
    if size > INLINE_TYPED and not asked.raw_input_contents:
        return await lane.beside(lambda: read_message(asked, most))
    return read_message(asked, most)


async def _server_live(catalog: Catalog, asked: Any) -> Any:
    return message("inference.ServerLiveResponse")(live=True)


async def _server_ready(catalog: Catalog, asked: Any) -> Any:
    return message("inference.ServerReadyResponse")(ready=catalog.ready)


async def _model_ready(catalog: Catalog, asked: Any) -> Any:
    model = catalog.models.get(asked.name)
    served = model is not None and (not asked.version or asked.version in model.versions)
    return message("inference.ModelReadyResponse")(ready=served)


async def _server_metadata(catalog: Catalog, asked: Any) -> Any:
    return _filled("inference.ServerMetadataResponse", server_metadata())


async def _model_metadata(catalog: Catalog, asked: Any) -> Any:
    lane = catalog.lane(asked.name, asked.version or None)
    return _filled("inference.ModelMetadataResponse", model_metadata(catalog.models[lane.model], lane))


async def _model_config(catalog: Catalog, asked: Any) -> Any:
    config = model_config(catalog.lane(asked.name, asked.version or None))
    return message("inference.ModelConfigResponse")(config=_filled("inference.ModelConfig", config))


async def _model_statistics(catalog: Catalog, asked: Any) -> Any:
    counted = statistics_of(catalog, asked.name or None, asked.version or None)
    return _filled("inference.ModelStatisticsResponse", counted)


async def _repository_index(catalog: Catalog, asked: Any) -> Any:
    response = message("inference.RepositoryIndexResponse")()
    for one in repository_index(catalog.index(), ready=asked.ready):
        response.models.add(**one.model_dump())
    return response


async def _repository_load(catalog: Catalog, asked: Any) -> Any:
    if asked.parameters:
        raise malformed("parameters: configurations and files come from the operator alone")
    await load(catalog, asked.model_name)
    return message("inference.RepositoryModelLoadResponse")()


async def _repository_unload(catalog: Catalog, asked: Any) -> Any:
    await catalog.command("unload", asked.model_name)
    return message("inference.RepositoryModelUnloadResponse")()


async def _check_health(catalog: Catalog, asked: Any) -> Any:
    if asked.service not in ("", INFERENCE):
        raise ProblemError(NOT_FOUND, "there is no such service")
    response = message("grpc.health.v1.HealthCheckResponse")
    return response(status=response.SERVING if catalog.ready else response.NOT_SERVING)


def _filled(name: str, content: BaseModel) -> Any:
    """A message with the same fields. MissingExtra without protobuf."""
    empty = message(name)()
    from google.protobuf.json_format import ParseDict

    return ParseDict(content.model_dump(), empty)


ANSWERS: dict[str, dict[str, Answer]] = {
    INFERENCE: {
        "ServerLive": _server_live,
        "ServerReady": _server_ready,
        "ModelReady": _model_ready,
        "ServerMetadata": _server_metadata,
        "ModelMetadata": _model_metadata,
        "ModelConfig": _model_config,
        "ModelStatistics": _model_statistics,
        "RepositoryIndex": _repository_index,
        "RepositoryModelLoad": _repository_load,
        "RepositoryModelUnload": _repository_unload,
    },
    HEALTH: {"Check": _check_health},
}
"""By service and method, all that does not infer."""
