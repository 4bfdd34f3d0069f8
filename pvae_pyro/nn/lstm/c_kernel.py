"""The recurrence of `RaggedLSTM` on CPU and its gradient, computed by `lstm.c`.

Shapes: B rows, T frames, F input features, H cells, N frames that exist (`Packing`). P is H padded
to a multiple of the C code's block size; gates are stored in the C code's order ``[N, 4P]``.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from pvae_pyro.nn.lstm.buffer_pool import give_back, take
from pvae_pyro.nn.lstm.compiler import build
from pvae_pyro.nn.packing import Packing

_DEFINES = {
    torch.float32: ("REAL=float", "REAL_BITS=32"),
    torch.float64: ("REAL=double", "REAL_BITS=64"),
}
_NUMBERS = ("threads", "batch", "steps", "hidden", "padded", "features")
_ADDRESSES = (
    "alive", "input", "before", "x", "w_ih", "w_hh", "start", "gates", "cells", "states",
    "scratch", "grad_states", "grad_last", "grad_c", "total", "grad_hh", "grad_ih", "grad_b",
)  # fmt: skip


class _Call(ctypes.Structure):
    """The struct `Call` of lstm.c; a missing tensor is a null pointer."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _ADDRESSES),
    ]


@dataclass
class Saved:
    """What `backward` needs: flat buffers of gates, c and, unless the caller holds it, h."""

    gates: Tensor
    cells: Tensor
    states: Tensor | None


@cache
def library(dtype: torch.dtype, bfloat16: bool = False) -> Any:
    """The compiled code for a type; None if it could not be compiled.

    bfloat16: for float32, round the factors of matrix products to bfloat16, if the processor
    multiplies those faster (Intel's AMX). Sums and all else stay float32.
    """
    if bfloat16:
        built = build("lstm.c", *_DEFINES[dtype], "TILES") if dtype == torch.float32 else None
        if built is None or not built.ready():
            return library(dtype)
    else:
        built = build("lstm.c", *_DEFINES[dtype]) if dtype in _DEFINES else None
    if built is not None:
        for function in (built.forward, built.backward, built.weights):
            function.argtypes, function.restype = [ctypes.POINTER(_Call)], None
        built.scratch_size.argtypes = [ctypes.c_int64] * 3
        built.units.restype = built.scratch_size.restype = ctypes.c_int64
    return built


def forward(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor,
    packing: Packing,
    keep: bool,
    give_states: bool,
    bfloat16: bool = False,
) -> tuple[Tensor, Saved | None]:
    """States h of packed frames ``[N, H]`` and, if `keep`, what `backward` needs.

    x: ``[B, T, F]``, or ``[B, F]`` for an input that is the same at every step. give_states: the
    caller owns the states and passes them to `backward`; otherwise they are valid until the next
    call. bfloat16: see `library`.
    """
    lib, hidden, frames = library(x.dtype, bfloat16), w_hh.shape[1], len(packing.frame)
    padded = _padded(hidden, lib)
    start = _interleave(bias.unsqueeze(1), padded, lib).view(-1)
    if x.dim() == 2:
        weight = _interleave(w_ih, padded, lib)
        start = torch.addmm(start, x.index_select(0, packing.order), weight.t())
    given = give_states and padded == hidden
    states = x.new_empty(frames, hidden) if given else take(x.dtype, frames * padded)
    gates = take(x.dtype, frames * 4 * padded) if keep else None
    cells = take(x.dtype, (frames if keep else len(packing.order)) * padded)
    scratch = take(x.dtype, lib.scratch_size(padded, x.shape[-1], torch.get_num_threads()))
    call = _call(x, w_ih, w_hh, packing, padded, start=start, gates=gates, cells=cells,
                 states=states, scratch=scratch)  # fmt: skip
    lib.forward(call)
    give_back(scratch)
    if gates is None:
        give_back(cells, *([] if given else [states]))
        saved = None
    else:
        saved = Saved(gates, cells, None if given else states)
    if given:
        return states, saved
    narrow = states[: frames * padded].view(frames, padded)[:, :hidden]
    return narrow.contiguous() if give_states else narrow, saved


def backward(
    saved: Saved,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    packing: Packing,
    states: Tensor | None,
    grad_states: Tensor | None,
    grad_last: Tensor | None,
    needed: tuple[bool, bool],
    bfloat16: bool = False,
) -> tuple[Tensor | None, tuple[Tensor, Tensor, Tensor] | None]:
    """Gradients of x and of (w_ih, w_hh, bias), each if `needed`; `saved` is overwritten.

    states: those that `forward` gave to the caller. grad_states: ``[N, H]`` of packed frames.
    grad_last: ``[B, H]`` of the last states of the rows, sorted by length.
    """
    lib, hidden, features = library(x.dtype, bfloat16), w_hh.shape[1], x.shape[-1]
    padded = _padded(hidden, lib)
    constant, batch, frames = x.dim() == 2, len(packing.order), len(packing.frame)
    scratch = take(x.dtype, lib.scratch_size(padded, features, torch.get_num_threads()))
    total = x.new_zeros(batch, 4 * padded) if constant else None
    grads = [torch.zeros_like(w_hh), torch.zeros_like(w_ih), w_hh.new_zeros(4 * hidden)]
    wanted = [None if constant and n > 0 else grad for n, grad in enumerate(grads)]
    call = _call(
        x, w_ih, w_hh, packing, padded, gates=saved.gates, cells=saved.cells,
        states=states if saved.states is None else saved.states, scratch=scratch,
        grad_states=_widen(grad_states, padded),
        grad_last=_widen(grad_last, padded), grad_c=x.new_zeros(batch, padded), total=total,
        grad_hh=wanted[0], grad_ih=wanted[1], grad_b=wanted[2],
    )  # fmt: skip
    lib.backward(call)
    if needed[1]:
        lib.weights(call)
    flat, rows = x.reshape(-1, features), packing.order if constant else packing.frame
    grad_gates = saved.gates[: frames * 4 * padded].view(frames, 4 * padded)
    total = grad_gates if total is None else total
    if constant:
        grads[1] = _gate_major(total.t() @ flat.index_select(0, rows), hidden, lib)
        grads[2] = _gate_major(total.sum(0).unsqueeze(1), hidden, lib).view(-1)
    grad_x = None
    if needed[0]:
        products = total @ _interleave(w_ih, padded, lib)
        grad_x = torch.zeros_like(flat).index_copy_(0, rows, products).view(x.shape)
    own = [] if saved.states is None else [saved.states]
    give_back(scratch, saved.gates, saved.cells, *own)
    return grad_x, (grads[1], grads[0], grads[2]) if needed[1] else None


def _call(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, packing: Packing, padded: int, **more: Tensor | None
) -> _Call:
    x, w_ih, w_hh = x.contiguous(), w_ih.contiguous(), w_hh.contiguous()
    numbers = (
        torch.get_num_threads(), len(packing.order), len(packing.alive), w_hh.shape[1], padded,
        x.shape[-1],
    )  # fmt: skip
    tensors = {"alive": packing.alive, "before": packing.before, "x": x, "w_ih": w_ih, **more}
    tensors |= {"w_hh": w_hh, "input": packing.frame if x.dim() == 3 else None}
    call = _Call(*numbers, **{k: None if v is None else v.data_ptr() for k, v in tensors.items()})
    call.tensors = tensors  # keeps them alive while C has their addresses
    return call


def _padded(hidden: int, lib: Any) -> int:
    """H, rounded up to a multiple of the C code's block size."""
    return int(-(-hidden // lib.units()) * lib.units())


def _widen(x: Tensor | None, padded: int) -> Tensor | None:
    if x is not None and x.shape[1] < padded:
        x = nn.functional.pad(x, (0, padded - x.shape[1]))
    return None if x is None else x.contiguous()


def _interleave(weight: Tensor, padded: int, lib: Any) -> Tensor:
    """Put rows into the C code's order of gates: ``[4H, K] -> [4P, K]``."""
    gates = weight.view(4, -1, weight.shape[1])
    gates = nn.functional.pad(gates, (0, 0, 0, padded - gates.shape[1]))
    lanes = lib.units() // 4
    return gates.view(4, -1, lanes, weight.shape[1]).transpose(0, 1).reshape(4 * padded, -1)


def _gate_major(weight: Tensor, hidden: int, lib: Any) -> Tensor:
    """The inverse of `_interleave`: ``[4P, K] -> [4H, K]``."""
    lanes = lib.units() // 4
    gates = weight.view(-1, 4, lanes, weight.shape[1]).transpose(0, 1)
    return gates.reshape(4, -1, weight.shape[1])[:, :hidden].reshape(4 * hidden, -1)
