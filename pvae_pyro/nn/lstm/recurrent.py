"""A one-layer LSTM over ragged batches, fast to train on CPU.

Shapes: B rows, T frames, F input features, H cells, N = sum of lengths (frames that exist).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from pvae_pyro.nn.lstm import native_cell as lstm_native
from pvae_pyro.nn.lstm import torch_cell as lstm_torch
from pvae_pyro.nn.packing import Packing

_WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def cpu_language() -> str:
    """What the recurrence on CPU runs in: ``"C"``, or ``"torch"`` where nothing could be built."""
    return "torch" if lstm_native.library(torch.float32) is None else "C"


class _RaggedLSTM(torch.autograd.Function):
    """States of packed frames ``[N, H]`` (empty unless `want_states`) and last states ``[B, H]``.

    ``x`` is ``[B, T, F]``, or ``[B, F]`` for an input that is the same at every step.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor,
        packing: Packing, want_states: bool, keep: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.packing, ctx.want_states = packing, want_states
        states, ctx.saved = _forward(x, w_ih, w_hh, b_ih + b_hh, packing, keep, want_states)
        last = states.index_select(0, packing.last)
        # The output too, in this way: torch then tells of a change to it, and frees it in time.
        given = [states] if want_states else []
        ctx.save_for_backward(x, w_ih, w_hh, b_ih, b_hh, *given)
        return states if want_states else x.new_empty(0), last

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # type: ignore[override]
        grad_states, grad_last = grad_outputs
        x, w_ih, w_hh, b_ih, b_hh, *given = ctx.saved_tensors
        packing: Packing = ctx.packing
        if ctx.saved is None:  # a second pass over a retained graph: the first overwrote it
            ctx.saved = _forward(x, w_ih, w_hh, b_ih + b_hh, packing, True, False)[1]
        saved, ctx.saved = ctx.saved, None
        if grad_last is not None:
            grad_last = grad_last.index_select(0, packing.order)
        needed = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:5])
        in_c = isinstance(saved, lstm_native.Saved)
        grad_x, grads = (lstm_native if in_c else lstm_torch).backward(
            saved, x, w_ih, w_hh, packing, given[0] if given else None, grad_states, grad_last,
            needed,
        )  # fmt: skip
        grad_ih, grad_hh, grad_b = grads or (None, None, None)
        return grad_x, grad_ih, grad_hh, grad_b, grad_b, None, None, None


def _forward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, packing: Packing, keep: bool, give: bool
) -> tuple[Tensor, Any]:
    how = lstm_torch if lstm_native.library(x.dtype) is None else lstm_native
    return how.forward(x, w_ih, w_hh, bias, packing, keep, give)


class RaggedLSTM(nn.LSTM):
    r"""One-layer LSTM over rows of different lengths, from a zero initial state.

    .. math::
        (i, f, g, o)_t &= (\sigma, \sigma, \tanh, \sigma)(W_{ih} x_t + b_{ih}
                          + W_{hh} h_{t-1} + b_{hh}) \\
        c_t &= f_t c_{t-1} + i_t g_t \qquad h_t = o_t \tanh c_t

    Parameters are those of ``nn.LSTM(input_size, hidden_size)``, so state dicts interchange.
    The `Packing` says which frames exist; others influence nothing, whatever they hold. It is
    computed in float32 under autocast too. On CPU this is code of ours, and gradients of gradients
    are not available; elsewhere it is torch's (cuDNN). Raises ValueError for x of other features
    than `input_size`, of another batch or, in `last_state`, of another number of frames than the
    packing's.

    Source: Hochreiter and Schmidhuber (1997), in the variant with a forget gate and without
    peepholes (Gers et al., 2000) that cuDNN and ``nn.LSTM`` compute.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, x: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Of x ``[B, T, F]``: packed outputs ``[N, H]`` and each row's last state ``[B, H]``."""
        return self._run(x, packing, want_states=True)

    def last_state(self, x: Tensor, packing: Packing) -> Tensor:
        """h ``[B, H]`` at each row's last frame of x ``[B, T, F]``."""
        return self._run(x, packing, want_states=False)[1]

    def unroll(self, x: Tensor, packing: Packing) -> Tensor:
        """Packed outputs ``[N, H]`` when x ``[B, F]`` is the input at every step."""
        return self._run(x, packing, want_states=True)[0]

    def _run(self, x: Tensor, packing: Packing, want_states: bool) -> tuple[Tensor, Tensor]:
        packing.check(x)
        if x.shape[-1] != self.input_size:
            raise ValueError(f"x has {x.shape[-1]} features, and the LSTM takes {self.input_size}")
        weights = tuple(self.get_parameter(name) for name in _WEIGHTS)
        if all(_on_cpu(t) for t in (x, *weights)) and _of_one_type(weights):
            keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights))
            x = x.to(weights[0].dtype)
            return _RaggedLSTM.apply(x, *weights, packing, want_states, keep)
        data = packing.repeat(x) if x.dim() == 2 else packing.pack(x)
        order, unsorted = packing.order.to(x.device), packing.unsorted.to(x.device)
        sequence = PackedSequence(data.to(weights[0].dtype), packing.alive, order, unsorted)
        # Whatever type is asked for, torch's autocast has cuDNN's LSTM compute in float16, whose
        # gradients vanish or overflow unless the loss is scaled to it.
        with torch.autocast(x.device.type, enabled=False):
            packed, (states, _) = super().forward(sequence)
        return packed.data, states[0]


def _on_cpu(x: Tensor) -> bool:
    """Whether it has memory of its own there: not so, for example, a fake tensor."""
    return type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu"


def _of_one_type(weights: tuple[Tensor, ...]) -> bool:
    dtypes = {weight.dtype for weight in weights}
    return len(dtypes) == 1 and dtypes <= {torch.float32, torch.float64}
