"""The Open Inference Protocol, version 2 (also known as the KServe or Triton protocol), over HTTP and gRPC."""

from .errors import as_error, error_content, error_response
from .openapi import document_infer
from .rest import v2_routes
from .rest_infer import infer

__all__ = ["as_error", "document_infer", "error_content", "error_response", "infer", "v2_routes"]
