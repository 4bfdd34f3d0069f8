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

from pvae_pyro.nn import lstm_cell


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
        outputs = x.new_zeros(batch * plan.num_frames, hidden) if with_outputs else None
        last, *ctx.activations = _forward(x, w_ih, w_hh, b_ih + b_hh, plan, outputs)
        last = torch.empty_like(last).index_copy_(0, plan.order, last)
        if outputs is None:
            return x.new_empty(0), last
        return outputs.view(-1, plan.num_frames, hidden), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor | None, grad_last: Tensor | None) -> Any:
        x, w_ih, w_hh, b_ih, b_hh = ctx.saved_tensors
        plan: _Plan = ctx.plan
        batch, hidden, features = len(plan.order), w_hh.shape[1], x.shape[-1]
        if ctx.activations is None:  # a second pass over a retained graph: the first overwrote them
            ctx.activations = _forward(x, w_ih, w_hh, b_ih + b_hh, plan, None)[1:]
        (gates, cells, joined), ctx.activations = ctx.activations, None

        grad_h = x.new_zeros(batch, hidden)
        if grad_last is not None:
            torch.index_select(grad_last, 0, plan.order, out=grad_h)
        if grad_outputs is not None:
            grad_outputs = grad_outputs.contiguous().view(-1, hidden)
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
    x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, plan: _Plan, outputs: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run over time: sorted last states, and per packed frame gates, cells and product inputs.

    A frame's product input is ``[h_{t-1}, x_t, 1]``: one product a step while its gates are in
    cache, and one for all weight gradients. A constant input is projected once and left out.
    """
    batch, hidden, features, frames = len(plan.order), w_hh.shape[1], x.shape[-1], len(plan.frame)
    projected = None
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
    last = x.new_empty(batch, hidden)
    packed = (buffer.split_with_sizes(plan.alive) for buffer in (gates, cells, joined, plan.frame))
    steps = list(zip(*packed, strict=True))
    before = None
    for t, (gate, cell, product_input, frame) in enumerate(steps):
        skip = hidden if t == 0 else 0  # h_0 is zero
        torch.mm(product_input[:, skip:], weight[skip:], out=gate)
        after = (steps[t + 1][2] if t + 1 < len(steps) else joined[:0])[:, :hidden]
        lstm_cell.forward(gate, projected, before, cell, after, last, outputs, frame)
        before = cell
    return last, gates, cells, joined


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
    packed = (buffer.split_with_sizes(plan.alive) for buffer in (gates, cells, plan.frame))
    steps = list(zip(*packed, strict=True))
    for t, (gate, cell, frame) in reversed(list(enumerate(steps))):
        before = steps[t - 1][1] if t > 0 else None  # c_0 is zero
        lstm_cell.backward(
            gate, before, cell, grad_h, grad_c, grad_outputs, frame,
            total if plan.constant else None,
        )  # fmt: skip
        if t > 0:
            torch.mm(gate, w_hh, out=grad_h[: len(gate)])
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
