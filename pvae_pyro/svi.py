"""Stochastic variational inference over one torch optimiser."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pvae_pyro import distributed
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.training.step_values import StepValues


class SVI:
    """`pyro.infer.SVI`'s interface (`step`, `evaluate_loss`) over module parameters.

    Stock `pyro.infer.SVI` keeps parameters in Pyro's global store, where a second model with the
    same names silently gets the first one's, and makes one optimiser per parameter. Here one torch
    optimiser has the parameters of both modules, and the global store is left unchanged. Gradients
    are those of the mean over the batch, so the learning rate does not depend on its size.

    Each of several processes (`distributed.started`) takes its own part of a batch, and a step
    descends along the mean of their gradients, by `DistributedDataParallel`. With equal parts that
    is the gradient of the whole batch, except for terms that compare examples: negatives are drawn,
    and independence is measured, within a part.

    A step is not taken if a term or a gradient is not finite; `last_step` tells. Torch's fused
    optimisers decide that on the device, without waiting for it.

    Clip the gradients when an LSTM reads or generates sequences: theirs explode now and then
    (Pascanu et al. 2013, arXiv:1211.5063), and one such step disturbs Adam for thousands of others.

    Args:
        model, guide: `nn.Module`s.
        optim: parameters -> torch optimiser, e.g. ``partial(torch.optim.Adam, lr=1e-3)``.
        loss: the objective.
        autocast: type in which the networks compute where torch considers it safe
            (``torch.bfloat16``); parameters and distributions stay float32. None: no other type.
        clip_norm: gradients whose L2 norm, over all parameters, is larger are scaled down to it; in
            nats per example and unit of the parameters. None: never.

    Raises ValueError for bound methods, which have no parameters to train, and for a clip_norm that
    is not positive.
    """

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        optim: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        loss: PartitionedELBO,
        autocast: torch.dtype | None = None,
        clip_norm: float | None = None,
    ):
        for role, module in (("model", model), ("guide", guide)):
            if not isinstance(module, nn.Module):
                raise ValueError(f"the {role} must be an nn.Module, not {type(module).__name__}")
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(
                f"clip_norm must be positive, or None for no clipping, not {clip_norm}"
            )
        self.model = model
        self.guide = guide
        self.loss = loss
        self.clip_norm = clip_norm
        self.last_step: StepValues | None = None
        self._own_terms = _Terms(model, guide, loss, autocast)
        self._terms: nn.Module = self._own_terms
        self.optim = optim(self.parameters())
        if distributed.world_size() > 1:
            # static_graph: some parameters may never have a gradient, as with α = β = 0.
            on_cpu = next(self.parameters()).device.type == "cpu"
            self._terms = DistributedDataParallel(
                self._own_terms,
                static_graph=True,
                gradient_as_bucket_view=True,
                # On CPU the exchange does not overlap with computation, so one bucket suffices.
                bucket_cap_mb=1000 if on_cpu else None,
            )

    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the model, then those of the guide; shared ones once."""
        return self._own_terms.parameters()

    def terms(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The objective's terms, ``[B]`` each; see `PartitionedELBO.terms`."""
        # Without gradients nothing is exchanged, so the other processes need not take part.
        return (self._terms if torch.is_grad_enabled() else self._own_terms)(*args, **kwargs)

    def update(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """One gradient step. Returns each term's mean over the batch, in nats, as a 0-d tensor.

        The values stay on the device: reading one waits for the step.
        """
        terms, means = self._descend(*args, **kwargs)
        return dict(zip(terms, means.unbind(), strict=True))

    def step(self, *args: Any, **kwargs: Any) -> float:
        """One gradient step. Returns the loss summed over the batch, as `pyro.infer.SVI` does.

        Raises FloatingPointError, naming the terms, if a term or gradient is not finite.
        """
        terms, _ = self._descend(*args, **kwargs)
        assert self.last_step is not None
        if not self.last_step.finite:
            raise FloatingPointError(f"not finite: {', '.join(self.last_step.wrong())}")
        return -terms["objective"].sum().item()

    @torch.no_grad()
    def evaluate_loss(self, *args: Any, **kwargs: Any) -> float:
        """The loss summed over the batch, without a step."""
        return -self.terms(*args, **kwargs)["objective"].sum().item()

    def _descend(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Tensor], Tensor]:
        """The terms, and the mean of each over the batch."""
        terms = self.terms(*args, **kwargs)
        means = torch.stack([value.detach() for value in terms.values()]).mean(-1)
        self.optim.zero_grad(set_to_none=True)
        loss = -terms["objective"].mean()
        # A factor of 1, or NaN if any term is not finite, even one that is only reported. It makes
        # the gradients of all processes NaN, so that checking the gradients is enough.
        loss.backward((1.0 + (0.0 * means).sum()).to(loss.dtype))
        self.last_step = StepValues.of(terms, self._own_terms.named_parameters())
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)
        self._step_if(self.last_step.finite)
        return terms, means

    def _step_if(self, finite: Tensor) -> None:
        if getattr(self.optim, "_step_supports_amp_scaling", False):
            # As torch.amp.GradScaler does: the device decides, without a wait.
            self.optim.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optim.step()
        elif finite:
            self.optim.step()


class _Terms(nn.Module):
    """The objective's terms as one module's output, as `DistributedDataParallel` wants them."""

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        loss: PartitionedELBO,
        autocast: torch.dtype | None,
    ):
        super().__init__()
        self.model, self.guide, self.loss, self.autocast = model, guide, loss, autocast

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        device = next(self.parameters()).device.type
        with (
            pyro.get_param_store().scope(),
            torch.autocast(device, self.autocast, enabled=self.autocast is not None),
        ):
            return self.loss.terms(self.model, self.guide, *args, **kwargs)
