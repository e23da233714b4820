"""Exporters talk: they print, log and warn. All of it is collected instead."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

_TALKERS = ("torch", "torchao", "nncf", "onnxscript", "onnx_ir", "openvino", "root")


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.name}: {record.getMessage().strip()}")


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """The lines that were printed, logged or warned meanwhile; complete when the block ends."""
    lines: list[str] = []
    printed = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        _handlers_replaced(_Collector(lines)),
    ):
        warnings.simplefilter("always")
        yield lines
    lines += [f"{type(w.message).__name__}: {str(w.message).strip()}" for w in caught]
    lines += [line for line in printed.getvalue().splitlines() if line.strip()]
    lines[:] = list(dict.fromkeys(lines))


@contextlib.contextmanager
def _handlers_replaced(handler: logging.Handler) -> Iterator[None]:
    """Loggers below a talker hand their records up to it; those with handlers of their own get this one too."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _TALKERS]
    loggers = [logging.getLogger(name) for name in dict.fromkeys([*_TALKERS[:-1], *names])]
    kept = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        top = "." not in logger.name
        if top or logger.handlers:
            logger.handlers = [handler] if top or not logger.propagate else []
        if top:
            logger.propagate = False
    try:
        yield
    finally:
        for logger, handlers, propagate in kept:
            logger.handlers, logger.propagate = handlers, propagate
