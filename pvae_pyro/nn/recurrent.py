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

    Frames are packed time-major, so the rows still alive at step t are one contiguous slice
    ``starts[t] : starts[t] + alive[t]``. A state h_t is kept where step t+1 reads it, shifted
    down by B because step 0 reads none; the B last states fill the end of that buffer, sorted.
    """

    alive: list[int]  # [T'] rows alive at each step, T' = the longest length
    starts: list[int]  # [T'] first packed frame of each step
    order: Tensor  # [B] sorted position -> the caller's row
    inverse: Tensor  # [B] the caller's row -> sorted position
    frame: Tensor  # [N] packed frame -> row * num_frames + time, in the caller's order
    slot: Tensor  # [N] packed frame -> where its state is kept

    @classmethod
    def of(cls, lengths: Tensor, num_frames: int) -> _Plan:
        sorted_lengths, order = lengths.sort(descending=True, stable=True)
        batch, longest = len(lengths), int(sorted_lengths[0])
        exists = sorted_lengths > torch.arange(longest).unsqueeze(1)  # [T', B]
        alive = exists.sum(1)
        starts = alive.cumsum(0) - alive
        time, rank = exists.nonzero().unbind(1)
        ends = time + 1 == sorted_lengths[rank]
        following = starts[(time + 1).clamp(max=longest - 1)] - batch
        slot = torch.where(ends, len(time) - batch, following) + rank
        return cls(
            alive=alive.tolist(),
            starts=starts.tolist(),
            order=order,
            inverse=order.argsort(),
            frame=order[rank] * num_frames + time,
            slot=slot,
        )


class _RaggedLSTM(torch.autograd.Function):
    """The recurrence and its gradient; see `RaggedLSTM` for the formula.

    ``x`` is ``[B, T, F]``, or ``[B, F]`` for an input that is the same at every step. Returns
    the outputs ``[B, num_frames, H]`` (empty unless ``with_outputs``) and the last states
    ``[B, H]``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        plan: _Plan,
        num_frames: int,
        with_outputs: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.plan, ctx.num_frames, ctx.shape = plan, num_frames, x.shape
        constant = x.dim() == 2
        rows = plan.order if constant else plan.frame
        inputs = x.reshape(-1, x.shape[-1]).index_select(0, rows)
        bias = bias_ih + bias_hh
        gates, cells, states = _steps(inputs, weight_ih, weight_hh, bias, plan, constant)
        ctx.save_for_backward(inputs, weight_ih, weight_hh, bias_ih, bias_hh, states)
        ctx.activations = gates, cells

        batch, hidden = len(plan.order), weight_hh.shape[1]
        last = states[-batch:].index_select(0, plan.inverse)
        if not with_outputs:
            return states.new_empty(0), last
        outputs = states.new_zeros(batch * num_frames, hidden)
        outputs.index_copy_(0, plan.frame, states.index_select(0, plan.slot))
        return outputs.view(batch, num_frames, hidden), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor | None, grad_last: Tensor | None) -> Any:
        inputs, weight_ih, weight_hh, bias_ih, bias_hh, states = ctx.saved_tensors
        plan: _Plan = ctx.plan
        batch, hidden = len(plan.order), weight_hh.shape[1]
        constant = len(ctx.shape) == 2
        if ctx.activations is None:  # a second pass over a retained graph: the first overwrote them
            bias = bias_ih + bias_hh
            ctx.activations = _steps(inputs, weight_ih, weight_hh, bias, plan, constant)[:2]
        (gates, cells), ctx.activations = ctx.activations, None

        grad_states = None
        if grad_outputs is not None:
            grad_states = torch.empty_like(states)
            flat = grad_outputs.reshape(-1, hidden).index_select(0, plan.frame)
            grad_states.index_copy_(0, plan.slot, flat)
        grad_h = states.new_zeros(batch, hidden)
        if grad_last is not None:
            grad_h.copy_(grad_last.index_select(0, plan.order))
        if grad_states is not None:
            grad_h += grad_states[-batch:]

        grad_gates = _steps_backward(grad_h, grad_states, gates, cells, weight_hh, plan, constant)

        needs_x, needs_ih, needs_hh, *needs_bias = ctx.needs_input_grad[:5]
        grad_x = grad_ih = grad_hh = grad_bias = None
        if needs_hh:
            grad_hh = gates[batch:].t() @ states[:-batch]
        if needs_ih:
            grad_ih = grad_gates.t() @ inputs
        if any(needs_bias):
            grad_bias = grad_gates.sum(0)
        if needs_x:
            rows = plan.order if constant else plan.frame
            grad_x = inputs.new_zeros(ctx.shape)
            grad_x.view(-1, ctx.shape[-1]).index_copy_(0, rows, grad_gates @ weight_ih)
        return grad_x, grad_ih, grad_hh, grad_bias, grad_bias, None, None, None


def _steps(
    inputs: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    plan: _Plan,
    constant: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run forward over time: gates ``[N, 4H]`` after their non-linearity, cells and states."""
    batch, hidden, frames = plan.alive[0], weight_hh.shape[1], len(plan.slot)
    projected = torch.addmm(bias, inputs, weight_ih.t())
    gates = inputs.new_empty(frames, 4 * hidden) if constant else projected
    cells = inputs.new_empty(frames, hidden)
    states = inputs.new_empty(frames, hidden)
    tanh_cell = inputs.new_empty(batch, hidden)
    weight = weight_hh.t()
    for t, (start, alive) in enumerate(zip(plan.starts, plan.alive, strict=True)):
        gate = gates[start : start + alive]
        if t > 0:
            state = states[start - batch : start - batch + alive]
            before = projected[:alive] if constant else gate
            torch.addmm(before, state, weight, out=gate)
        elif constant:
            gate.copy_(projected)
        gate[:, : 2 * hidden].sigmoid_()
        gate[:, 2 * hidden : 3 * hidden].tanh_()
        gate[:, 3 * hidden :].sigmoid_()
        i, f, g, o = gate.chunk(4, 1)
        cell = torch.mul(i, g, out=cells[start : start + alive])
        if t > 0:
            cell.addcmul_(f, cells[plan.starts[t - 1] : plan.starts[t - 1] + alive])
        tanh = torch.tanh(cell, out=tanh_cell[:alive])
        go_on = plan.alive[t + 1] if t + 1 < len(plan.alive) else 0
        if go_on > 0:
            slot = start + alive - batch
            torch.mul(o[:go_on], tanh[:go_on], out=states[slot : slot + go_on])
        if go_on < alive:
            end = frames - batch
            torch.mul(o[go_on:], tanh[go_on:], out=states[end + go_on : end + alive])
    return gates, cells, states


def _steps_backward(
    grad_h: Tensor,
    grad_states: Tensor | None,
    gates: Tensor,
    cells: Tensor,
    weight_hh: Tensor,
    plan: _Plan,
    constant: bool,
) -> Tensor:
    """Run backward over time, turning ``gates`` into their gradient before the non-linearity.

    ``grad_h`` ``[B, H]`` starts as the gradient of the last states: a row's stays untouched until
    the row comes alive. Returns the gradient of the projected input, ``[N, 4H]`` or ``[B, 4H]``.
    """
    batch, hidden = grad_h.shape
    grad_c = torch.zeros_like(grad_h)
    total = gates.new_zeros(batch, 4 * hidden) if constant else gates
    scratch = torch.empty_like(grad_h), torch.empty_like(grad_h), torch.empty_like(grad_h)
    for t in reversed(range(len(plan.alive))):
        start, alive = plan.starts[t], plan.alive[t]
        gate = gates[start : start + alive]
        i, f, g, o = gate.chunk(4, 1)
        dh, dc = grad_h[:alive], grad_c[:alive]
        a, b, tanh = (s[:alive] for s in scratch)
        torch.tanh(cells[start : start + alive], out=tanh)
        torch.mul(dh, o, out=a)
        dc += _tanh_backward(a, tanh, grad_input=a)
        _sigmoid_backward(torch.mul(dh, tanh, out=b), o, grad_input=o)
        torch.mul(dc, g, out=a)
        torch.mul(dc, i, out=b)
        _sigmoid_backward(a, i, grad_input=i)
        _tanh_backward(b, g, grad_input=g)
        if t > 0:
            torch.mul(dc, cells[plan.starts[t - 1] : plan.starts[t - 1] + alive], out=a)
            dc *= f
            _sigmoid_backward(a, f, grad_input=f)
            if grad_states is None:
                torch.mm(gate, weight_hh, out=dh)
            else:
                slot = start - batch
                torch.addmm(grad_states[slot : slot + alive], gate, weight_hh, out=dh)
        else:
            f.zero_()
        if constant:
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
        """Outputs ``[B, T, H]``, zero past each length, and last states ``[B, H]``.

        ``x`` is ``[B, T, F]``, ``lengths`` is ``[B]``.
        """
        return self._run(x, lengths, x.shape[1], with_outputs=True)

    def last_state(self, x: Tensor, lengths: Tensor) -> Tensor:
        """h ``[B, H]`` at each row's last frame, given ``x`` ``[B, T, F]``, ``lengths`` ``[B]``."""
        return self._run(x, lengths, x.shape[1], with_outputs=False)[1]

    def unroll(self, x: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
        """Outputs ``[B, num_frames, H]`` of the same input ``x`` ``[B, F]`` at every step.

        Zero past each length.
        """
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
            plan = _Plan.of(lengths, num_frames)
            weights = self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0
            return _RaggedLSTM.apply(x, *weights, plan, num_frames, with_outputs)
        if x.dim() == 2:
            x = x.unsqueeze(1).expand(-1, num_frames, -1)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, (last, _) = super().forward(packed)
        if not with_outputs:
            return x.new_empty(0), last[0]
        padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=num_frames)
        return padded, last[0]
