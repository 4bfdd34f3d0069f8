"""A one-layer LSTM over ragged batches, fast to train on CPU.

Shapes: B rows, T frames, F input features, H cells, N = sum of lengths (frames that exist).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


@dataclass(frozen=True)
class _Plan:
    """Where everything lies once rows are sorted by length, longest first.

    Frames are packed time-major: ``packed.split(plan.alive)`` gives each step's frames, of the
    rows still alive, which are the first of anything sorted.
    """

    alive: list[int]  # [T'] rows alive at each step, T' = the longest length
    order: Tensor  # [B] sorted position -> the caller's row
    frame: Tensor  # [N] packed frame -> row * num_frames + time, in the caller's order
    num_frames: int
    constant: bool  # one input for all steps

    @classmethod
    def of(cls, lengths: Tensor, num_frames: int, constant: bool) -> _Plan:
        lengths, order = lengths.sort(descending=True, stable=True)
        exists = lengths > torch.arange(int(lengths[0]), device="cpu").unsqueeze(1)  # [T', B]
        time, rank = exists.nonzero().unbind(1)
        frame = order[rank] * num_frames + time
        return cls(exists.sum(1).tolist(), order, frame, num_frames, constant)


class _RaggedLSTM(torch.autograd.Function):
    """The recurrence and its gradient; see `RaggedLSTM` for the formula.

    ``x`` is ``[B, T, F]``, or ``[B, F]`` for an input that is the same at every step. Returns
    the outputs ``[B, T, H]`` (empty unless ``with_outputs``) and the last states ``[B, H]``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor,
        plan: _Plan, with_outputs: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.plan = plan
        ctx.save_for_backward(x, w_ih, w_hh, b_ih, b_hh)
        batch, hidden = len(plan.order), w_hh.shape[1]
        outputs = x.new_zeros(batch * plan.num_frames if with_outputs else 0, hidden)
        last, *ctx.activations = _forward(x, w_ih, w_hh, b_ih + b_hh, plan, outputs)
        last = torch.empty_like(last).index_copy_(0, plan.order, last)
        return outputs.view(-1, plan.num_frames, hidden), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor | None, grad_last: Tensor | None) -> Any:
        x, w_ih, w_hh, b_ih, b_hh = ctx.saved_tensors
        plan: _Plan = ctx.plan
        batch, hidden, features = len(plan.order), w_hh.shape[1], x.shape[-1]
        if ctx.activations is None:  # a second pass over a retained graph: the first overwrote them
            ctx.activations = _forward(x, w_ih, w_hh, b_ih + b_hh, plan, x.new_empty(0))[1:]
        (gates, cells, joined), ctx.activations = ctx.activations, None

        grad_h = x.new_zeros(batch, hidden)
        if grad_last is not None:
            torch.index_select(grad_last, 0, plan.order, out=grad_h)
        if grad_outputs is not None:
            grad_outputs = grad_outputs.reshape(-1, hidden)
        total = _backward(grad_h, grad_outputs, gates, cells, w_hh, plan)

        grad_x = grad_ih = grad_hh = grad_b = None
        if plan.constant:
            if ctx.needs_input_grad[2]:
                grad_hh = gates[batch:].t() @ joined[batch:]
            grad_ih = total.t() @ x.index_select(0, plan.order)
            grad_b = total.sum(0)
        elif any(ctx.needs_input_grad[1:5]):
            grad = gates.t() @ joined
            grad_hh, grad_ih, grad_b = grad.tensor_split([hidden, hidden + features], 1)
            grad_b = grad_b[:, 0]
        if ctx.needs_input_grad[0]:
            rows = plan.order if plan.constant else plan.frame
            grad_x = x.new_zeros(x.shape)
            grad_x.view(-1, features).index_copy_(0, rows, total @ w_ih)
        return grad_x, grad_ih, grad_hh, grad_b, grad_b, None, None


def _forward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, plan: _Plan, outputs: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run over time: sorted last states, and per packed frame gates, cells and product inputs.

    A frame's product input is ``[h_{t-1}, x_t, 1]``: one product a step while its gates are in
    cache, and one for all weight gradients. A constant input is projected once and left out.
    """
    batch, hidden, features, frames = len(plan.order), w_hh.shape[1], x.shape[-1], len(plan.frame)
    if plan.constant:
        projected = torch.addmm(bias, x.index_select(0, plan.order), w_ih.t())
        weight = w_hh.t().contiguous()
    else:
        weight = torch.cat([w_hh, w_ih, bias.unsqueeze(1)], 1).t().contiguous()
    gates = x.new_empty(frames, 4 * hidden)
    cells = x.new_empty(frames, hidden)
    joined = x.new_empty(frames, len(weight))
    joined[:batch, :hidden] = 0
    if not plan.constant:
        joined[:, hidden:-1] = x.reshape(-1, features).index_select(0, plan.frame)
        joined[:, -1] = 1
    h, scratch = x.new_empty(batch, hidden), x.new_empty(batch, hidden)
    packed = (buffer.split_with_sizes(plan.alive) for buffer in (gates, cells, joined, plan.frame))
    before = None
    for gate, cell, product_input, frame in zip(*packed, strict=True):
        alive = len(gate)
        state, tanh = h[:alive], scratch[:alive]
        skip = hidden if before is None else 0  # h_0 is zero
        if before is not None:
            product_input[:, :hidden] = state
        if plan.constant:
            torch.addmm(projected[:alive], product_input[:, skip:], weight[skip:], out=gate)
        else:
            torch.mm(product_input[:, skip:], weight[skip:], out=gate)
        i, f, g, o = gate.chunk(4, 1)
        gate[:, : 2 * hidden].sigmoid_()
        g.tanh_()
        o.sigmoid_()
        torch.mul(i, g, out=cell)
        if before is not None:
            cell.addcmul_(f, before[:alive])
        torch.mul(o, torch.tanh(cell, out=tanh), out=state)  # stays in h where a row ends
        if len(outputs) > 0:
            outputs.index_copy_(0, frame, state)
        before = cell
    return h, gates, cells, joined


def _backward(
    grad_h: Tensor,
    grad_outputs: Tensor | None,
    gates: Tensor,
    cells: Tensor,
    w_hh: Tensor,
    plan: _Plan,
) -> Tensor:
    """Run back over time, turning ``gates`` into their gradient before the non-linearity.

    ``grad_h`` ``[B, H]`` starts as the sorted gradient of the last states, and a row's stays
    as it is until the row comes alive. Returns the gradient of the projected input, ``[N, 4H]``,
    or ``[B, 4H]`` of a constant one.
    """
    grad_c = torch.zeros_like(grad_h)
    total = gates.new_zeros(len(grad_h), gates.shape[1]) if plan.constant else gates
    scratch = [torch.empty_like(grad_h) for _ in range(3)]
    packed = (buffer.split_with_sizes(plan.alive) for buffer in (gates, cells, plan.frame))
    steps = list(zip(*packed, strict=True))
    for t in reversed(range(len(steps))):
        gate, cell, frame = steps[t]
        alive = len(gate)
        i, f, g, o = gate.chunk(4, 1)
        dh, dc = grad_h[:alive], grad_c[:alive]
        a, b, tanh = (buffer[:alive] for buffer in scratch)
        if grad_outputs is not None:
            dh += torch.index_select(grad_outputs, 0, frame, out=a)
        torch.tanh(cell, out=tanh)
        torch.mul(dh, o, out=a)
        dc += _tanh_backward(a, tanh, grad_input=a)
        _sigmoid_backward(torch.mul(dh, tanh, out=b), o, grad_input=o)
        torch.mul(dc, i, out=b)
        _sigmoid_backward(torch.mul(dc, g, out=a), i, grad_input=i)
        _tanh_backward(b, g, grad_input=g)
        if t > 0:
            torch.mul(dc, steps[t - 1][1][:alive], out=a)
            dc *= f
            _sigmoid_backward(a, f, grad_input=f)  # last: dc needs f itself
            torch.mm(gate, w_hh, out=dh)
        else:
            f.zero_()  # c_0 is zero
        if plan.constant:
            total[:alive] += gate
    return total


class RaggedLSTM(nn.LSTM):
    r"""One-layer LSTM over rows of different lengths, from a zero initial state.

    .. math::
        (i, f, g, o)_t &= (\sigma, \sigma, \tanh, \sigma)(W_{ih} x_t + b_{ih}
                          + W_{hh} h_{t-1} + b_{hh}) \\
        c_t &= f_t c_{t-1} + i_t g_t \qquad h_t = o_t \tanh c_t

    Parameters are those of ``nn.LSTM(input_size, hidden_size)``, so state dicts interchange.
    Frames at or past a row's length influence nothing, whatever they hold. ``lengths`` is an
    integer tensor ``[B]``; every method raises ``ValueError`` where a length is below 1 or
    exceeds the number of frames. On CPU, gradients of gradients are not available.

    Source: Hochreiter and Schmidhuber (1997), in the variant with a forget gate and without
    peepholes (Gers et al., 2000) that cuDNN and ``nn.LSTM`` compute.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Outputs ``[B, T, H]``, zero past each length, and last states ``[B, H]``."""
        return self._run(x, lengths, x.shape[1], with_outputs=True)

    def last_state(self, x: Tensor, lengths: Tensor) -> Tensor:
        """h ``[B, H]`` at each row's last frame, given ``x`` ``[B, T, F]``, ``lengths`` ``[B]``."""
        return self._run(x, lengths, x.shape[1], with_outputs=False)[1]

    def unroll(self, x: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
        """Outputs ``[B, num_frames, H]``, zero past lengths, of ``x`` ``[B, F]`` at every step."""
        return self._run(x, lengths, num_frames, with_outputs=True)[0]

    def _run(
        self, x: Tensor, lengths: Tensor, num_frames: int, with_outputs: bool
    ) -> tuple[Tensor, Tensor]:
        lengths = lengths.cpu()
        if lengths.shape != x.shape[:1]:
            raise ValueError(f"lengths {tuple(lengths.shape)} for x {tuple(x.shape)}: want [B]")
        if lengths.numel() == 0 or lengths.min() < 1 or lengths.max() > num_frames:
            raise ValueError(f"lengths must be between 1 and {num_frames}, got {lengths.tolist()}")
        plain = type(x) in (Tensor, nn.Parameter)  # not, for example, a fake tensor
        if plain and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            plan = _Plan.of(lengths, num_frames, constant=x.dim() == 2)
            weights = self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0
            outputs, last = _RaggedLSTM.apply(x, *weights, plan, with_outputs)
            return outputs, last
        if x.dim() == 2:
            x = x.unsqueeze(1).expand(-1, num_frames, -1)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        packed, (states, _) = super().forward(packed)
        if not with_outputs:
            return x.new_empty(0), states[0]
        padded, _ = pad_packed_sequence(packed, batch_first=True, total_length=num_frames)
        return padded, states[0]
