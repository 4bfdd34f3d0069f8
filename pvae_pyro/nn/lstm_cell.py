"""The element-wise work of one LSTM step on CPU: in C where there is a compiler, else by torch.

Shapes: A rows alive, H cells. Gates ``[A, 4H]`` lie as i, f, g, o. Everything is contiguous but
`after`, whose rows are some stride apart, and of one type.

    i, f, g, o = σ(i), σ(f), tanh(g), σ(o)      c = f before + i g      h = o tanh(c)
"""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pvae_pyro.nn import native

_DEFINES = {
    torch.float32: ("REAL=float", "REAL_BITS=32"),
    torch.float64: ("REAL=double", "REAL_BITS=64"),
}


def forward(
    gate: Tensor,
    constant: Tensor | None,
    before: Tensor | None,
    cell: Tensor,
    after: Tensor,
    last: Tensor,
    outputs: Tensor | None,
    frame: Tensor,
) -> None:
    """Turn `gate` from before the non-linearity to after it, and write c to `cell` ``[A, H]``.

    h goes to `after` ``[rows alive at the next step, H]``, where the next product reads it, to
    `last` ``[B, H]`` of the rows that end here, and to the rows `frame` ``[A]`` of `outputs`.
    `before` is c of the step before, None for zeros. `constant` ``[B, 4H]`` is added first.
    """
    library = _library(gate.dtype)
    if library is not None:
        library.forward(
            *gate.shape, _at(gate), _at(constant), _at(before), _at(cell), len(after),
            _at(after), after.stride(0), _at(last), _at(outputs), _at(frame),
        )  # fmt: skip
        return
    if constant is not None:
        gate += constant[: len(gate)]
    i, f, g, o = gate.chunk(4, 1)
    gate[:, : 2 * i.shape[1]].sigmoid_()
    g.tanh_()
    o.sigmoid_()
    torch.mul(i, g, out=cell)
    if before is not None:
        cell.addcmul_(f, before[: len(gate)])
    h = torch.tanh(cell).mul_(o)
    after.copy_(h[: len(after)])
    last[len(after) : len(h)] = h[len(after) :]
    if outputs is not None:
        outputs.index_copy_(0, frame, h)


def backward(
    gate: Tensor,
    before: Tensor | None,
    cell: Tensor,
    grad_h: Tensor,
    grad_c: Tensor,
    grad_outputs: Tensor | None,
    frame: Tensor,
    total: Tensor | None,
) -> None:
    """Turn `gate` from after the non-linearity to the gradient before it.

    The gradient of h is `grad_h` and, where given, the rows `frame` of `grad_outputs`. `grad_c`
    turns from the gradient of c to that of c of the step before. `total` has the result added.
    """
    library = _library(gate.dtype)
    if library is not None:
        library.backward(
            *gate.shape, _at(gate), _at(before), _at(cell), _at(grad_h), _at(grad_c),
            _at(grad_outputs), _at(frame), _at(total),
        )  # fmt: skip
        return
    alive = len(gate)
    i, f, g, o = gate.chunk(4, 1)
    dh, dc = grad_h[:alive], grad_c[:alive]
    if grad_outputs is not None:
        dh = dh + grad_outputs.index_select(0, frame)
    tanh = torch.tanh(cell)
    dc.add_(torch.ops.aten.tanh_backward(dh * o, tanh))
    o.copy_(torch.ops.aten.sigmoid_backward(dh * tanh, o))
    di, dg = dc * g, dc * i
    i.copy_(torch.ops.aten.sigmoid_backward(di, i))
    g.copy_(torch.ops.aten.tanh_backward(dg, g))
    df = None if before is None else dc * before[:alive]
    dc.mul_(f)
    f.copy_(torch.zeros_like(f) if df is None else torch.ops.aten.sigmoid_backward(df, f))
    if total is not None:
        total[:alive] += gate


def language() -> str:
    """What steps on CPU run in: ``"C"``, or ``"torch"`` where nothing could be built."""
    return "torch" if _library(torch.float32) is None else "C"


@cache
def _library(dtype: torch.dtype) -> Any:
    library = native.build("lstm_cell.c", *_DEFINES[dtype]) if dtype in _DEFINES else None
    if library is not None:
        n, p = ctypes.c_int64, ctypes.c_void_p
        library.forward.argtypes = [n, n, p, p, p, p, n, p, n, p, p, p]
        library.backward.argtypes = [n, n, p, p, p, p, p, p, p, p]
        library.forward.restype = library.backward.restype = None
    return library


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
