"""A one-layer LSTM over ragged batches, fast to train on CPU.

Shapes: B rows, T frames, F input features, H cells, N = sum of lengths (frames that exist).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from pvae_pyro.nn.lstm import c_kernel
from pvae_pyro.nn.packing import Packing

_WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def cpu_language() -> str:
    """The language of the recurrence on CPU: ``"C"``, or ``"torch"`` if nothing was compiled."""
    return "torch" if c_kernel.library(torch.float32) is None else "C"


class _RaggedLSTMFunction(torch.autograd.Function):
    """States of packed frames ``[N, H]`` (empty unless `want_states`) and last states ``[B, H]``.

    ``x`` is ``[B, T, F]``, or ``[B, F]`` for an input that is the same at every step.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor,
        packing: Packing, want_states: bool, keep: bool, bfloat16: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.packing, ctx.bfloat16 = packing, bfloat16
        bias = b_ih + b_hh
        states, ctx.saved = c_kernel.forward(
            x, w_ih, w_hh, bias, packing, keep, want_states, bfloat16
        )
        last = states.index_select(0, packing.last)
        # Torch watches saved outputs for changes in place, and frees them in time.
        given = [states] if want_states else []
        ctx.save_for_backward(x, w_ih, w_hh, bias, *given)
        return states if want_states else x.new_empty(0), last

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # type: ignore[override]
        grad_states, grad_last = grad_outputs
        x, w_ih, w_hh, bias, *given = ctx.saved_tensors
        packing: Packing = ctx.packing
        if ctx.saved is None:  # a first pass over a retained graph has overwritten it
            ctx.saved = c_kernel.forward(x, w_ih, w_hh, bias, packing, True, False, ctx.bfloat16)[1]
        saved, ctx.saved = ctx.saved, None
        if grad_last is not None:
            grad_last = grad_last.index_select(0, packing.order)
        needed = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:5])
        grad_x, grads = c_kernel.backward(
            saved, x, w_ih, w_hh, packing, given[0] if given else None, grad_states, grad_last,
            needed, ctx.bfloat16,
        )  # fmt: skip
        grad_ih, grad_hh, grad_b = grads or (None, None, None)
        return grad_x, grad_ih, grad_hh, grad_b, grad_b, None, None, None, None


class RaggedLSTM(nn.LSTM):
    r"""One-layer LSTM over rows of different lengths, from a zero initial state.

    .. math::
        (i, f, g, o)_t &= (\sigma, \sigma, \tanh, \sigma)(W_{ih} x_t + b_{ih}
                          + W_{hh} h_{t-1} + b_{hh}) \\
        c_t &= f_t c_{t-1} + i_t g_t \qquad h_t = o_t \tanh c_t

    Parameters are those of ``nn.LSTM(input_size, hidden_size)``, so state dicts interchange.
    The `Packing` says which frames exist; padding influences nothing, whatever it contains.
    On CPU it runs in C, without gradients of gradients, or as torch's LSTM if there is no compiler;
    on CUDA it is cuDNN's. Under autocast it is computed in float32 too, except that on CPU, under
    autocast to bfloat16, the factors of products are rounded to bfloat16 if the processor has
    Intel's AMX: the sums, the gates and the states stay float32.

    Raises ValueError if x has other than `input_size` features, or does not fit the packing.

    Source: Hochreiter and Schmidhuber (1997), in the variant with a forget gate and without
    peepholes (Gers et al., 2000) that cuDNN and ``nn.LSTM`` compute.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, x: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """x ``[B, T, F]`` -> packed outputs ``[N, H]`` and each row's last state ``[B, H]``."""
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
        if _runs_in_c(x, *weights):
            keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights))
            x = x.to(weights[0].dtype)
            autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
            bfloat16 = autocast == torch.bfloat16
            return _RaggedLSTMFunction.apply(x, *weights, packing, want_states, keep, bfloat16)
        data = packing.repeat(x) if x.dim() == 2 else packing.pack(x)
        # Autocast would run cuDNN's LSTM in float16, whose gradients vanish or overflow.
        with torch.autocast(x.device.type, enabled=False):
            return self._run_in_torch(data.to(weights[0].dtype), packing)

    def _run_in_torch(self, data: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
        if data.device.type == "cpu":  # where a padded batch is several times faster
            states = packing.pack(super().forward(packing.pad(data))[0])
            return states, states.index_select(0, packing.last)
        order, unsorted = packing.order.to(data.device), packing.unsorted.to(data.device)
        packed, (last, _) = super().forward(PackedSequence(data, packing.alive, order, unsorted))
        return packed.data, last[0]


def _runs_in_c(x: Tensor, *weights: Tensor) -> bool:
    """Whether all tensors have memory on the CPU (a fake tensor has none) and a supported type."""
    return (
        all(type(t) in (Tensor, nn.Parameter) and t.device.type == "cpu" for t in (x, *weights))
        and len({weight.dtype for weight in weights}) == 1
        and c_kernel.library(weights[0].dtype) is not None
    )
