"""What torch executes, read from its profiler over one run."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .kernels import dtype_words, precision_of, tally
from .protocol import Kernel

_HEAVY_NAMES = """
    addmm addmv addbmm baddbmm bmm mm mv dot _int_mm mkldnn_convolution slow_conv2d_forward slow_conv3d_forward
    slow_conv_transpose2d slow_conv_transpose3d slow_conv_dilated2d slow_conv_dilated3d thnn_conv2d
    _slow_conv2d_forward _conv_depthwise2d conv_depthwise3d convolution_overrideable _nnpack_spatial_convolution
    mkldnn_rnn_layer mkldnn_linear _linear_pointwise _convolution_pointwise _convolution_transpose_pointwise
    _scaled_dot_product_flash_attention_for_cpu _flash_attention_forward qlinear_pointwise qconv_pointwise
    linear_dynamic linear_relu_dynamic quantized_lstm
    cudnn_convolution cudnn_convolution_relu cudnn_convolution_add_relu cudnn_convolution_transpose _cudnn_rnn
    _scaled_mm _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention
    _scaled_dot_product_cudnn_attention _efficient_attention_forward _cudnn_attention_forward"""
_HEAVY = frozenset(_HEAVY_NAMES.split())
"""The operations that end in a matrix product or convolution routine, as the profiler names them."""

_INTEGER_NAMES = """
    quantized::linear quantized::linear_relu quantized::linear_leaky_relu quantized::linear_tanh
    quantized::linear_dynamic quantized::linear_relu_dynamic quantized::matmul quantized::conv1d quantized::conv1d_relu
    quantized::conv2d quantized::conv2d_relu quantized::conv2d_add quantized::conv2d_add_relu quantized::conv3d
    quantized::conv3d_relu quantized::conv_transpose1d quantized::conv_transpose2d quantized::conv_transpose3d
    quantized::quantized_lstm_cell_dynamic quantized::quantized_gru_cell_dynamic aten::quantized_lstm
    aten::quantized_gru onednn::qlinear_pointwise onednn::qconv_pointwise onednn::qconv2d_pointwise"""
_INTEGER = frozenset(_INTEGER_NAMES.split())
"""Products of 8-bit integers. Their packed weights are no tensors to the profiler, and those that measure ranges in
each run take and give floats, so that their arguments do not show it."""

_MOVES_NAMES = """
    as_strided as_strided_ view _unsafe_view reshape _reshape_alias flatten unflatten expand expand_as t transpose
    permute squeeze unsqueeze select slice narrow split split_with_sizes chunk unbind detach detach_ alias empty
    empty_like empty_strided resize_ contiguous clone copy_ to _to_copy resolve_conj resolve_neg lift_fresh item
    _local_scalar_dense is_nonzero result_type fill_ zero_ zeros zeros_like set_ scalar_tensor cudnn_is_acceptable"""
_MOVES = frozenset(_MOVES_NAMES.split())
"""Shape and memory work, which has no precision to speak of."""


def profiled_kernels(run: Callable[[], object]) -> tuple[Kernel, ...]:
    """The innermost operations of one call, each with the narrowest dtype of its tensor arguments.

    The profiler observes the dispatcher, so it shows the operands that kernels were called with, for eager code and
    for TorchScript's interpreter alike."""
    from torch.profiler import ProfilerActivity, profile

    with without_profiler_chatter():
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as session:
            run()
        events = [event for event in session.profiler.kineto_results.events() if "::" in event.name()]
    events.sort(key=lambda event: (event.start_thread_id(), event.start_ns(), -event.end_ns()))
    return tally(_innermost(events))


@dataclass(slots=True)
class _Call:
    op: str
    precision: str
    thread: int
    end: int
    heavy: bool
    within_heavy: bool
    inner: bool = False
    inner_heavy: bool = False


def _innermost(events: list[Any]) -> Iterator[tuple[str, str, bool]]:
    """Heavy calls that have no heavy call inside, and other calls that have none inside and are in no heavy one.

    `events` are in the order of their start, so the calls that an event lies in are a stack."""
    calls: list[_Call] = []
    open_calls: list[_Call] = []
    for event in events:
        name = event.name()
        op = name.rsplit("::", 1)[-1]
        if op in _MOVES:
            continue
        thread, start = event.start_thread_id(), event.start_ns()
        while open_calls and (open_calls[-1].thread != thread or open_calls[-1].end <= start):
            open_calls.pop()
        heavy = is_heavy(name)
        for outer in open_calls:
            outer.inner = True
            outer.inner_heavy |= heavy
        within = any(outer.heavy for outer in open_calls)
        call = _Call(op, _precision(event), thread, event.end_ns(), heavy, within)
        calls.append(call)
        open_calls.append(call)
    for call in calls:
        if not call.inner_heavy if call.heavy else not (call.inner or call.within_heavy):
            yield call.op, call.precision, call.heavy


def _precision(event: Any) -> str:
    return "int8" if event.name() in _INTEGER else precision_of(dtype_words(event.dtypes()))


@contextmanager
def without_profiler_chatter() -> Iterator[None]:
    """Kineto writes two lines of its own to the process' stderr, past Python; everything else there is passed on."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            for line in file:
                if not line.startswith(b"USDT:"):
                    os.write(2, line)


def is_heavy(name: str) -> bool:
    """Whether an operation, such as `aten::addmm`, ends in a matrix product or convolution routine."""
    return name in _INTEGER or name.rsplit("::", 1)[-1] in _HEAVY
