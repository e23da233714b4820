"""NNCF, kept quiet."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

from ...errors import MissingExtra
from ...exporters.noise import collected
from ...runtime.engine_openvino import need_openvino


@contextlib.contextmanager
def quiet_nncf() -> Iterator[Any]:
    """NNCF, with its log, its progress bars and its telemetry silent. Raises MissingExtra."""
    need_openvino("quantizing for OpenVINO")
    with collected():
        collecting = sys.stdout
        try:
            import nncf
        except ModuleNotFoundError as error:
            raise MissingExtra("quantizing a model", str(error.name), "build") from error
        logger = logging.getLogger("nncf")
        handlers, level = logger.handlers, logger.level
        logger.handlers = [logging.NullHandler()]
        logger.setLevel(logging.ERROR)
        try:
            yield nncf
        finally:
            logger.handlers = handlers
            logger.setLevel(level)
    for handler in handlers:
        # Its own handler holds the stream of the time of its first import, which may be the collected one.
        if isinstance(handler, logging.StreamHandler) and handler.stream is collecting:
            handler.setStream(sys.stdout)
