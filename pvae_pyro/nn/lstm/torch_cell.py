"""The recurrence of `RaggedLSTM` on CPU and its gradient, by torch: where there is no compiler.

Shapes: B rows, T frames, F input features, H cells, N frames that exist (`Packing`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pvae_pyro.nn.packing import Packing


@dataclass
class Saved:
    """Of packed frames: gates after the non-linearity ``[N, 4H]``, c ``[N, H]`` and, unless the
    caller keeps it, h ``[N, H]``."""

    gates: Tensor
    cells: Tensor
    states: Tensor | None


def forward(
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    bias: Tensor,
    packing: Packing,
    keep: bool,
    give_states: bool,
) -> tuple[Tensor, Saved | None]:
    """States h of packed frames ``[N, H]``, and what `backward` needs, if it is to be kept.

    give_states: they are the caller's, who gives them back to `backward`.
    """
    alive, hidden = packing.alive.tolist(), w_hh.shape[1]
    if x.dim() == 2:
        projected = torch.addmm(bias, x.index_select(0, packing.order), w_ih.t())
        gates = x.new_empty(len(packing.frame), 4 * hidden)
    else:
        frames = x.reshape(-1, x.shape[-1]).index_select(0, packing.frame)
        gates = torch.addmm(bias, frames, w_ih.t())
    cells, states = (x.new_empty(len(packing.frame), hidden) for _ in range(2))
    weight = w_hh.t().contiguous()
    steps = zip(*(buffer.split(alive) for buffer in (gates, cells, states)), strict=True)
    c_before = h_before = None
    for gate, c, h in steps:
        if x.dim() == 2:
            gate.copy_(projected[: len(gate)])
        if h_before is not None:
            gate.addmm_(h_before[: len(gate)], weight)
        i, f, g, o = gate.chunk(4, 1)
        gate[:, : 2 * hidden].sigmoid_()
        g.tanh_()
        o.sigmoid_()
        torch.mul(i, g, out=c)
        if c_before is not None:
            c.addcmul_(f, c_before[: len(gate)])
        torch.tanh(c, out=h).mul_(o)
        c_before, h_before = c, h
    return states, Saved(gates, cells, None if give_states else states) if keep else None


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
) -> tuple[Tensor | None, tuple[Tensor, Tensor, Tensor] | None]:
    """Gradient of x and of (w_ih, w_hh, bias), each where `needed`; `saved` is used up.

    states: what `forward` gave, if it gave them. grad_states: ``[N, H]`` of packed frames.
    grad_last: ``[B, H]`` of sorted rows' last states.
    """
    gates, batch, constant = saved.gates, len(packing.order), x.dim() == 2
    grad_h = x.new_zeros(batch, w_hh.shape[1])
    if grad_last is not None:
        grad_h.copy_(grad_last)
    grad_c = torch.zeros_like(grad_h)
    total = x.new_zeros(batch, gates.shape[1]) if constant else gates
    alive = packing.alive.tolist()
    steps = list(zip(gates.split(alive), saved.cells.split(alive), strict=True))
    ends = len(gates)
    for t, (gate, c) in reversed(list(enumerate(steps))):
        rows = len(gate)
        ends -= rows
        i, f, g, o = gate.chunk(4, 1)
        dh, dc = grad_h[:rows], grad_c[:rows]
        if grad_states is not None:
            dh += grad_states[ends : ends + rows]
        tanh = torch.tanh(c)
        dc.add_(torch.ops.aten.tanh_backward(dh * o, tanh))
        o.copy_(torch.ops.aten.sigmoid_backward(dh * tanh, o))
        di, dg = dc * g, dc * i
        i.copy_(torch.ops.aten.sigmoid_backward(di, i))
        g.copy_(torch.ops.aten.tanh_backward(dg, g))
        df = dc * steps[t - 1][1][:rows] if t > 0 else torch.zeros_like(dc)  # c_0 is zero
        dc.mul_(f)
        f.copy_(torch.ops.aten.sigmoid_backward(df, f))
        if constant:
            total[:rows] += gate
        if t > 0:
            torch.mm(gate, w_hh, out=dh)

    rows_of_x = packing.order if constant else packing.frame
    flat = x.reshape(-1, x.shape[-1])
    grad_x = grads = None
    if needed[0]:
        grad_x = torch.zeros_like(flat).index_copy_(0, rows_of_x, total @ w_ih).view(x.shape)
    if needed[1]:
        states = states if saved.states is None else saved.states
        assert states is not None
        before = states.index_select(0, packing.before[batch:])
        grad_hh = gates[batch:].t() @ before
        grads = total.t() @ flat.index_select(0, rows_of_x), grad_hh, total.sum(0)
    return grad_x, grads
