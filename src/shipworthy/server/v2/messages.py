"""The protocol's messages, from the descriptors that are shipped.

They live in a pool of their own: a process that also imports another implementation of the protocol, such as a
client's, has messages of the same names, and one pool takes each name once. `protocol.desc` is made of the .proto files
beside it:

    protoc --descriptor_set_out=protocol.desc inference.proto health.proto
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from ...errors import MissingExtra

DESCRIPTORS = "protocol.desc"
INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"


@cache
def _pool() -> Any:
    try:
        from google.protobuf import descriptor_pool
        from google.protobuf.descriptor_pb2 import FileDescriptorSet
    except ImportError as error:
        raise MissingExtra("gRPC", "google.protobuf", "grpc") from error
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString((files(__package__) / DESCRIPTORS).read_bytes()).file:
        pool.Add(file)
    return pool


@cache
def message(name: str) -> Any:
    """The class of a message by its full name. MissingExtra without protobuf."""
    pool = _pool()
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def methods(service: str) -> dict[str, tuple[Any, Any, bool]]:
    """The methods of a service: the classes of request and response, and whether both are streams."""
    found = _pool().FindServiceByName(service)
    return {
        method.name: (
            message(method.input_type.full_name),
            message(method.output_type.full_name),
            method.client_streaming,
        )
        for method in found.methods
    }
